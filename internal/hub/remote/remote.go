// Package remote brings models and data sets from the Hugging Face hub into the cache of its tools.
//
// What an interrupted download left is gone on with; every file is checked against the digest that the hub lists
// before it counts; the token goes to the hub alone, never to the hosts it redirects to; and in offline mode no
// connection is opened.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/t5ctl/t5ctl/internal/hub"
)

// DefaultEndpoint is the hub.
const DefaultEndpoint = "https://huggingface.co"

const (
	attempts    = 5                // without any progress
	idle        = 60 * time.Second // without a byte
	longestWait = 60 * time.Second // that a server may ask for
)

// Options say which hub is asked, and how.
type Options struct {
	Endpoint  string // no slash at the end
	Token     string // "" asks as anybody
	Offline   bool
	Cache     hub.Cache
	Records   string // folder for listings of commits
	Transport http.RoundTripper
	// Wait passes the time between two attempts.
	Wait func(ctx context.Context, d time.Duration) error
	// Progress is told how many bytes there are to fetch, and how many have come. It may be called from several
	// goroutines.
	Progress func(fetched, total int64)
}

// FromEnvironment reads the variables that the hub's own tools read: HF_ENDPOINT, HF_TOKEN and the token that
// `hf auth login` kept, HF_HUB_OFFLINE, HF_HUB_CACHE and HF_HOME.
func FromEnvironment() Options {
	o := Options{Endpoint: strings.TrimRight(os.Getenv("HF_ENDPOINT"), "/"), Cache: hub.DefaultCache(), Wait: wait}
	if o.Endpoint == "" {
		o.Endpoint = DefaultEndpoint
	}
	o.Offline = isOn("HF_HUB_OFFLINE") || isOn("TRANSFORMERS_OFFLINE")
	o.Token = strings.TrimSpace(os.Getenv("HF_TOKEN"))
	if o.Token == "" && !isOn("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
		path := os.Getenv("HF_TOKEN_PATH")
		if path == "" {
			path = filepath.Join(hub.Home(), "token")
		}
		if kept, err := os.ReadFile(path); err == nil {
			o.Token = strings.TrimSpace(string(kept))
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // its type is documented
	transport.ResponseHeaderTimeout = idle
	o.Transport = transport
	return o
}

// isOn reads a switch as the hub's tools do.
func isOn(name string) bool {
	switch strings.ToUpper(os.Getenv(name)) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Client asks one hub.
type Client struct {
	options Options
	http    http.Client
}

// New checks the options and makes a client; no connection is opened.
func New(o Options) (*Client, error) {
	at, err := url.Parse(o.Endpoint)
	if err != nil || at.Host == "" || (at.Scheme != "https" && at.Scheme != "http") {
		return nil, &hub.RefError{Text: "HF_ENDPOINT " + strconv.Quote(o.Endpoint), Want: "an address like " + DefaultEndpoint}
	}
	if strings.ContainsAny(o.Token, " \r\n\t") {
		return nil, &hub.RefError{Text: "HF_TOKEN", Want: "a token: it has spaces in it"}
	}
	if at.Scheme == "http" && !isLoopback(at.Hostname()) {
		o.Token = "" // it could be read on the way
	}
	c := &Client{options: o}
	c.http = http.Client{Transport: o.Transport, CheckRedirect: c.redirect}
	return c, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// redirect lets a request go on elsewhere without the token, and never from TLS to none.
func (c *Client) redirect(next *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("it redirects too often")
	}
	for _, before := range via {
		if before.URL.Scheme == "https" && next.URL.Scheme != "https" {
			return fmt.Errorf("it redirects to %s without TLS", next.URL.Host)
		}
		if origin(before.URL) != origin(next.URL) {
			next.Header.Del("Authorization")
			next.Header.Del("Referer")
		}
	}
	return nil
}

func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }

// host is the endpoint's.
func (c *Client) host() string {
	_, host, _ := strings.Cut(c.options.Endpoint, "://")
	return host
}

// get sends one request, for the content from offset on. The body must be closed, and cancel called
// then; without a byte for a while it breaks off. Any answer but 200, 206 and 416 is an error.
func (c *Client) get(ctx context.Context, ref hub.Ref, what, address string, offset int64) (resp *http.Response, cancel func(), err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			stop(nil)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("User-Agent", "t5ctl")
	req.Header.Set("Accept-Encoding", "identity") // digests and offsets are of the content itself
	if c.options.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.options.Token)
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	if resp, err = c.http.Do(req); err != nil {
		return nil, nil, c.unreachable(what, err)
	}
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable:
		timer := time.AfterFunc(idle, func() { stop(fmt.Errorf("not a byte for %s", idle)) })
		resp.Body = &watched{ReadCloser: resp.Body, timer: timer, ctx: ctx}
		return resp, func() { timer.Stop(); stop(nil) }, nil
	}
	err = c.refusal(ref, what, resp)
	_ = resp.Body.Close() // read only
	return nil, nil, err
}

// watched is a body that puts off its end with each read.
type watched struct {
	io.ReadCloser
	timer *time.Timer
	ctx   context.Context //nolint:containedctx // says why a read was broken off
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.timer.Reset(idle)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := context.Cause(w.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// refusal makes an error of an answer.
func (c *Client) refusal(ref hub.Ref, what string, resp *http.Response) error {
	code := resp.Header.Get("X-Error-Code")
	missing := &hub.MissingError{Ref: ref.String(), Repo: ref.Repo()}
	_, isFile := strings.CutPrefix(what, ref.Repo()+"/")
	switch {
	case code == "RepoNotFound":
		missing.Reason, missing.Denied = fmt.Sprintf("%s has no repository %s, or it is private", c.host(), ref.Repo()), true
		return missing
	case code == "RevisionNotFound":
		missing.Reason = fmt.Sprintf("%s has no revision %s", ref.Repo(), ref.Revision)
		return missing
	case resp.StatusCode == http.StatusNotFound && (code == "EntryNotFound" || isFile):
		missing.Reason = fmt.Sprintf("%s has no file %s", c.host(), what)
		return missing
	case resp.StatusCode == http.StatusNotFound:
		missing.Reason = fmt.Sprintf("%s has no %s at revision %s", c.host(), ref.Repo(), ref.Revision)
		return missing
	}
	message := resp.Header.Get("X-Error-Message")
	if len(message) > 200 {
		message = message[:200] + "…"
	}
	e := &StatusError{Host: resp.Request.URL.Host, What: what, Status: resp.StatusCode, Message: message, TokenSent: c.options.Token != ""}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		return &laterError{e, time.Duration(seconds) * time.Second}
	}
	return e
}

// laterError is a refusal that says when to ask again.
type laterError struct {
	*StatusError
	after time.Duration
}

func (e *laterError) Unwrap() error { return e.StatusError }

func (c *Client) unreachable(what string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // its text would repeat the address
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &UnreachableError{Host: c.host(), What: what, Cause: err}
}

// retry calls once until it succeeds, fails for good, or has failed too often in a row; an attempt
// that brought something further (see progressed) does not count.
func (c *Client) retry(ctx context.Context, once func() error) error {
	for failures := 1; ; failures++ {
		err := once()
		if err == nil || ctx.Err() != nil || !worthRetrying(err) {
			return err
		}
		if p, ok := errors.AsType[*progressed](err); ok {
			failures, err = 1, p.error
		}
		if failures >= attempts {
			return err
		}
		pause := time.Second << (failures - 1)
		if later, ok := errors.AsType[*laterError](err); ok {
			pause = min(later.after, longestWait)
		}
		if err := c.options.Wait(ctx, pause); err != nil {
			return err
		}
	}
}

// progressed marks a failure after which less is missing than before.
type progressed struct{ error }

func (e *progressed) Unwrap() error { return e.error }

func worthRetrying(err error) bool {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
	}
	_, broken := errors.AsType[*UnreachableError](err)
	return broken
}
