package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are what /metrics shows. All but the gauges of the whole server have the labels model
// and version, as in model="g2p", version="v3".
type metrics struct {
	registry *prometheus.Registry

	requests    *prometheus.CounterVec   // model, version, code
	duration    *prometheus.HistogramVec // model, version
	queued      *prometheus.HistogramVec // model, version
	inputs      *prometheus.CounterVec   // model, version
	outputs     *prometheus.CounterVec   // model, version
	decoding    *prometheus.CounterVec   // model, version
	cost        *prometheus.CounterVec   // model, version
	limitHits   *prometheus.CounterVec   // model, version
	empty       *prometheus.CounterVec   // model, version
	truncated   *prometheus.CounterVec   // model, version
	policyHits  *prometheus.CounterVec   // model, version, kind
	cache       *prometheus.CounterVec   // model, version, result
	batchRows   *prometheus.HistogramVec // model, version
	rejected    *prometheus.CounterVec   // reason
	loads       *prometheus.CounterVec   // result
	switches    *prometheus.CounterVec   // model, version
	versionInfo *prometheus.GaugeVec     // model, version, digest, route
	shadow      *prometheus.CounterVec   // model, version, result
	shadowTime  *prometheus.HistogramVec // model, version
	samples     *prometheus.CounterVec   // result
	queueLength prometheus.Gauge
	inFlight    prometheus.Gauge
	fallback    prometheus.Gauge
	draining    prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "t5ctl_serve_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "t5ctl_serve_" + name, Help: help, Buckets: buckets}, []string{"model", "version"})
		m.registry.MustRegister(h)
		return h
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "t5ctl_serve_" + name, Help: help})
		m.registry.MustRegister(g)
		return g
	}
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m.requests = counter("requests_total", "Requests to /v1/generate that were answered, by HTTP status code; model and version are empty where none was reached.", "model", "version", "code")
	m.duration = histogram("request_duration_seconds", "Time from the arrival of a request that was answered with 200 to the end of its answer.", seconds)
	m.queued = histogram("queue_duration_seconds", "Time that a request waited before it was decoded.", seconds)
	m.inputs = counter("input_tokens_total", "Tokens of inputs, answers from the cache left out.", "model", "version")
	m.outputs = counter("output_tokens_total", "Tokens generated, answers from the cache left out.", "model", "version")
	m.decoding = counter("decode_seconds_total", "Time of decoding, divided among the requests that were decoded together.", "model", "version")
	m.cost = counter("cost_total", "Cost of the time of decoding, by --price-per-hour; 0 without one.", "model", "version")
	m.limitHits = counter("length_limit_hits_total", "Answers whose first output was cut by max_new_tokens.", "model", "version")
	m.empty = counter("empty_outputs_total", "Answers whose first output has no text.", "model", "version")
	m.truncated = counter("inputs_truncated_total", "Inputs that were longer than the model takes and were cut.", "model", "version")
	m.policyHits = counter("policy_hits_total", "Outputs in which personal data of this kind was found; needs --scan-outputs.", "model", "version", "kind")
	m.cache = counter("cache_lookups_total", "Lookups in the cache of answers; result is hit or miss.", "model", "version", "result")
	m.batchRows = histogram("batch_rows", "Requests under way together, at each time that new ones join.", []float64{1, 2, 4, 8, 16, 32, 64, 128})
	m.rejected = counter("rejected_total", "Requests refused before they were decoded; reason is queue_full, bad_request, too_large, unauthorized, not_found, loading or draining.", "reason")
	m.loads = counter("version_loads_total", "Attempts to load and check a version; result is ok or failed.", "result")
	m.switches = counter("version_switches_total", "Times that a version took over from another, as its channel moved or came back from the fallback.", "model", "version")
	m.versionInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "t5ctl_serve_version_info", Help: "1 for each version that is loaded; route is the name by which requests reach it.",
	}, []string{"model", "version", "digest", "route"})
	m.registry.MustRegister(m.versionInfo)
	m.shadow = counter("shadow_requests_total", "Requests mirrored to the shadow version; result is same, different, failed or dropped.", "model", "version", "result")
	m.shadowTime = histogram("shadow_duration_seconds", "Time that the shadow version took for a mirrored request, its wait included.", seconds)
	m.samples = counter("samples_total", "Requests drawn for review; result is kept or failed.", "result")
	m.queueLength = gauge("queue_length", "Requests that wait to be decoded.")
	m.inFlight = gauge("requests_in_flight", "Requests to /v1/generate that are being answered.")
	m.fallback = gauge("fallback_active", "1 while the fallback version answers in place of the one asked for.")
	m.draining = gauge("draining", "1 while the server finishes what it has, and takes no more.")
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// answered counts an answered request.
func (m *metrics) answered(v Version, code int, took time.Duration) {
	m.requests.WithLabelValues(v.Model, v.Number, strconv.Itoa(code)).Inc()
	if code == 200 {
		m.duration.WithLabelValues(v.Model, v.Number).Observe(took.Seconds())
	}
}

// decoded counts a request's share of the time of decoding, in seconds, and what it cost.
func (m *metrics) decoded(v Version, share, price float64) {
	m.decoding.WithLabelValues(v.Model, v.Number).Add(share)
	m.cost.WithLabelValues(v.Model, v.Number).Add(share / 3600 * price)
}
