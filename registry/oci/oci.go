// Package oci keeps a registry behind any server that speaks the OCI distribution protocol.
//
// Every model is a repository below the prefix. The log is one manifest a record, tagged
// t5log-<number>; nothing is decided by a tag that moves. How two writers are kept apart depends
// on the server, which is tried once with a tag of its own:
//
//   - strict: the server refuses to move a tag. Whoever writes t5log-<number> first has it.
//   - guarded: it does not. A writer announces itself under a tag that nobody else uses, looks
//     whether anybody else has, and writes the record only if not. This holds as long as a list
//     of tags shows what was written before it was asked for. A writer that dies between the two
//     steps blocks the log until its announcement is broken (BreakIntents).
//
// What was read of a log is remembered on this machine: it is not read twice, and a server that
// later shows a shorter or another log is caught.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	remote "oras.land/oras-go/v2/registry"
	client "oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/t5ctl/t5ctl/registry"
)

// Scheme starts the name of a place that this package opens.
const Scheme = "oci://"

// Options say how to talk to a server.
type Options struct {
	PlainHTTP bool          // no TLS; only for a server on this machine
	Memory    string        // folder for what was read of logs, and of uploads under way; "": none
	Journal   string        // who announces records, told to those who wait
	Retries   int           // of a request that failed for a reason that may pass; 0: 4
	Patience  time.Duration // how long to wait for another writer before giving up; 0: 30 s
	Chunk     int64         // bytes of one part of an upload; 0: 1 GiB
}

// Store is a registry.Backend behind a server.
type Store struct {
	host, prefix string
	options      Options
	client       *auth.Client

	mu           sync.Mutex
	repositories map[string]*repository
}

var (
	_ registry.Backend = (*Store)(nil)
	_ registry.Tagger  = (*Store)(nil)

	_ registry.Preparer = (*Store)(nil)
)

// PlaceError says why a place cannot be used.
type PlaceError struct{ Place, Reason string }

// Error names the place.
func (e *PlaceError) Error() string { return "registry " + e.Place + ": " + e.Reason }

// Open uses the place oci://host[:port][/prefix]. No request is sent yet. Credentials are those
// of Docker's configuration and its helpers.
func Open(place string, options Options) (*Store, error) {
	host, prefix, _ := strings.Cut(strings.TrimPrefix(place, Scheme), "/")
	prefix = strings.Trim(prefix, "/")
	if err := (remote.Reference{Registry: host}).ValidateRegistry(); err != nil || host == "" {
		return nil, &PlaceError{place, "it is not oci://host/prefix"}
	}
	if prefix != "" {
		if err := (remote.Reference{Registry: host, Repository: prefix}).ValidateRepository(); err != nil {
			return nil, &PlaceError{place, "the prefix is not the name of a repository"}
		}
	}
	if options.PlainHTTP && !isLoopback(host) {
		return nil, &PlaceError{place, "without TLS only a server on this machine may be used"}
	}
	if options.Retries == 0 {
		options.Retries = 4
	}
	if options.Patience == 0 {
		options.Patience = 30 * time.Second
	}
	if options.Chunk == 0 {
		options.Chunk = 1 << 30
	}
	docker, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading Docker's configuration: %w", err)
	}
	transport := &retry.Transport{
		Base: &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
			TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 2 * time.Minute, IdleConnTimeout: time.Minute,
		},
		Policy: func() retry.Policy { return policy(options.Retries) },
	}
	return &Store{
		host: host, prefix: prefix, options: options, repositories: map[string]*repository{},
		client: &auth.Client{
			Client: &http.Client{Transport: transport, CheckRedirect: redirect}, Cache: auth.NewCache(),
			Credential: credentials.Credential(docker), Header: http.Header{"User-Agent": {"t5ctl"}},
		},
	}, nil
}

// policy repeats what may succeed later: servers that are busy, and connections that broke. A list
// of referrers that clients keep is not written again as it was: others have written it meanwhile.
func policy(retries int) retry.Policy {
	return &retry.GenericPolicy{
		Retryable: func(resp *http.Response, err error) (bool, error) {
			if err == nil && resp.Request.Method == http.MethodPut && strings.Contains(resp.Request.URL.Path, "/manifests/sha256-") {
				return false, nil
			}
			if err == nil {
				return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode >= 500, nil
			}
			network := (*net.OpError)(nil)
			return errors.As(err, &network) || strings.HasSuffix(err.Error(), "EOF"), nil
		},
		Backoff: retry.DefaultBackoff, MinWait: 100 * time.Millisecond, MaxWait: 10 * time.Second, MaxRetry: retries,
	}
}

// isLoopback says whether a host is this machine.
func isLoopback(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// Root names the place.
func (s *Store) Root() string { return Scheme + path.Join(s.host, s.prefix) }

// repository is one model's place on the server.
type repository struct {
	*client.Repository
	store *Store
	model string
	base  string // URL up to /v2/<name>/

	mu     sync.Mutex
	known  *memory
	strict *bool // whether tags cannot move; nil: not tried yet
}

// repository finds the place of a model.
func (s *Store) repository(model string) (*repository, error) {
	if err := registry.CheckModel(model); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.repositories[model]; r != nil {
		return r, nil
	}
	name := path.Join(s.prefix, model)
	ref := remote.Reference{Registry: s.host, Repository: name}
	r := &repository{
		Repository: &client.Repository{
			Client: s.client, Reference: ref, PlainHTTP: s.options.PlainHTTP, SkipReferrersGC: true,
			TagListPageSize: 1000, TagListMaxPages: 10_000,
		},
		store: s, model: model, base: s.scheme() + ref.Host() + "/v2/" + name + "/",
	}
	s.repositories[model] = r
	return r, nil
}

func (s *Store) scheme() string {
	if s.options.PlainHTTP {
		return "http://"
	}
	return "https://"
}

// Init tries the server: whether it answers, and takes the credentials.
func (s *Store) Init(ctx context.Context) error {
	reg, err := client.NewRegistry(s.host)
	if err != nil {
		return &PlaceError{s.Root(), err.Error()}
	}
	reg.Client, reg.PlainHTTP = s.client, s.options.PlainHTTP
	return s.told(reg.Ping(ctx))
}

// Models asks the server for its catalog. Not every server has one.
func (s *Store) Models(ctx context.Context) ([]string, error) {
	reg, err := client.NewRegistry(s.host)
	if err != nil {
		return nil, &PlaceError{s.Root(), err.Error()}
	}
	reg.Client, reg.PlainHTTP, reg.RepositoryListPageSize = s.client, s.options.PlainHTTP, 1000
	var names []string
	err = reg.Repositories(ctx, "", func(page []string) error {
		for _, name := range page {
			model, found := name, true
			if s.prefix != "" {
				model, found = strings.CutPrefix(name, s.prefix+"/")
			}
			if found && registry.CheckModel(model) == nil {
				names = append(names, model)
			}
		}
		return nil
	})
	if err != nil {
		return nil, s.told(fmt.Errorf("listing the models of %s: %w", s.Root(), err))
	}
	var models []string
	for _, model := range names {
		r, err := s.repository(model)
		if err != nil {
			return nil, err
		}
		if _, found, err := r.resolve(ctx, logTag(1)); err != nil {
			return nil, err
		} else if found {
			models = append(models, model)
		}
	}
	slices.Sort(models)
	return models, nil
}
