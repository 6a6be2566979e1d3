package server

import (
	"regexp"

	"github.com/prometheus/client_golang/prometheus"
)

// MetricNames are those of all metrics of a server's own.
func MetricNames() []string {
	described := make(chan *prometheus.Desc)
	go func() { newMetrics().registry.Describe(described); close(described) }()
	var names []string
	for d := range described {
		if found := regexp.MustCompile(`fqName: "(t5ctl_[a-z_]+)"`).FindStringSubmatch(d.String()); found != nil {
			names = append(names, found[1])
		}
	}
	return names
}
