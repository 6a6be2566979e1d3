package cli

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/cmd/internal/settings"
	"github.com/t5ctl/t5ctl/datasets"
	"github.com/t5ctl/t5ctl/internal/model"
	"github.com/t5ctl/t5ctl/internal/pii"
	"github.com/t5ctl/t5ctl/internal/server"
)

// serveOptions is what the command line of serve says, not yet checked.
type serveOptions struct {
	model, fallback, shadow, shadowOutput string
	also                                  []string
	checks                                string

	address, tlsCert, tlsKey, tokenFile, otlp string

	precision, long                               string
	maxInput, maxNewTokens, maxBeams, rows, queue int
	wait, timeout, follow, drain                  time.Duration
	maxBody                                       int64
	cacheMB                                       int
	scanOutputs, logText                          bool
	sampleRate                                    float64
	sampleDir, sampleKey                          string
	sampleDays                                    int
	price                                         float64
}

func (o *serveOptions) bind(flags *pflag.FlagSet) {
	flags.StringVarP(&o.model, "model", "m", "", "`model`: name@channel, which is followed as it moves, name@vN, or a folder")
	flags.StringArrayVar(&o.also, "also", nil, "`NAME=REF`: a version or adapter that requests reach as NAME (repeatable)")
	flags.StringVar(&o.fallback, "fallback", "", "`model` that answers while --model cannot be loaded or fails its checks")
	flags.StringVar(&o.shadow, "shadow", "", "`model` that is given a copy of the requests; clients never see its answers")
	flags.StringVar(&o.shadowOutput, "shadow-output", "", "`file` to which both answers to each mirrored request go, redacted, for eval replay")
	flags.StringVar(&o.checks, "check", "", "`file` of rows: each input must be answered with its target before a version serves")
	flags.StringVar(&o.address, "listen", "127.0.0.1:8080", "`address`; one that other machines reach needs TLS and a token")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "certificate `file` (PEM)")
	flags.StringVar(&o.tlsKey, "tls-key", "", "`file` of its key (PEM, mode 0600)")
	flags.StringVar(&o.tokenFile, "auth-token-file", "", "`file` with the token that requests must bring (mode 0600)")
	flags.StringVar(&o.otlp, "otlp-endpoint", "", "send traces to the OpenTelemetry collector at this `URL` (OTLP over HTTP)")
	flags.StringVar(&o.precision, "precision", "fp32", "fp32, bf16 or int8 (on a CPU, of the decoder's weights)")
	flags.StringVar(&o.long, "long", model.Truncate, "inputs longer than --max-input-tokens: truncate, or error")
	flags.IntVar(&o.maxInput, "max-input-tokens", 512, "the most `tokens` of an input")
	flags.IntVar(&o.maxNewTokens, "limit-new-tokens", 0, "the most `tokens` that a request may ask for; 0: as many as the model's own setting")
	flags.IntVar(&o.maxBeams, "limit-beams", 4, "the most `beams` or outputs that a request may ask for")
	o.bindLoad(flags)
	o.bindRecords(flags)
}

// bindLoad binds what decides how much is done at a time.
func (o *serveOptions) bindLoad(flags *pflag.FlagSet) {
	flags.IntVar(&o.rows, "batch", 32, "decode `n` outputs at a time")
	flags.DurationVar(&o.wait, "batch-wait", 2*time.Millisecond, "how `long` the first request of a batch waits for others; four times that while some are decoded")
	flags.IntVar(&o.queue, "queue", 256, "`requests` that may wait; more are refused with 429")
	flags.DurationVar(&o.timeout, "request-timeout", 30*time.Second, "the longest that a request may take")
	flags.DurationVar(&o.follow, "follow", 5*time.Second, "how often channels are looked at; 0 never")
	flags.DurationVar(&o.drain, "drain", 30*time.Second, "how long requests may still take after SIGTERM")
	flags.Int64Var(&o.maxBody, "max-body", 64<<10, "the most `bytes` of a request")
	flags.IntVar(&o.cacheMB, "cache", 16, "keep answers in this many `MB`; 0 keeps none")
}

// bindRecords binds what is kept and told of requests.
func (o *serveOptions) bindRecords(flags *pflag.FlagSet) {
	flags.BoolVar(&o.scanOutputs, "scan-outputs", false, "count personal data in outputs, by its kind, in the metrics")
	flags.Float64Var(&o.price, "price-per-hour", 0, "`price` of an hour of this machine: answers and metrics tell what requests cost")
	flags.BoolVar(&o.logText, "log-text", false, "write inputs and outputs into the log")
	flags.Float64Var(&o.sampleRate, "sample-rate", 0, "keep this `share` of the requests for review, redacted")
	flags.StringVar(&o.sampleDir, "sample-dir", "", "`folder` for them (default: under the state folder)")
	flags.StringVar(&o.sampleKey, "sample-key", "", "`file` with the key of the pseudonyms in them (mode 0600)")
	flags.IntVar(&o.sampleDays, "sample-days", 30, "remove them after this many `days`")
}

func newServeCommand(app *App) *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use:   "serve --model <model>",
		Short: "Answer requests over HTTP, in batches, and follow a channel as it moves",
		Long: "Serve a model: POST /v1/generate, with /healthz, /readyz, /metrics and /v1/models beside it.\n" +
			"A version is verified before it is loaded. When its channel moves, the new version is loaded\n" +
			"and checked, then takes over; the old one ends what it has. SIGTERM ends the server once it has\n" +
			"answered what it was asked. The log goes to stderr, as JSON, without any text of requests.",
		Example: "  t5ctl serve --model g2p@production\n" +
			"  curl -s 127.0.0.1:8080/v1/generate -H 'Content-Type: application/json' -d '{\"input\": \"tomato\"}'",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServe(cmd.Context(), app, opts)
		},
	}
	opts.bind(cmd.Flags())
	return cmd
}

// check says what is wrong with the command line.
func (o *serveOptions) check() error {
	if err := checkPrice(o.price); err != nil {
		return err
	}
	positive := map[string]int{"batch": o.rows, "queue": o.queue, "limit-beams": o.maxBeams, "max-input-tokens": o.maxInput - 1, "max-body": int(o.maxBody), "sample-days": o.sampleDays}
	for flag, value := range positive {
		if value < 1 {
			return usageErrorf("--%s is too small", flag)
		}
	}
	switch {
	case o.model == "":
		return usageErrorf("--model is missing")
	case o.precision != "fp32" && o.precision != "bf16" && o.precision != "int8":
		return usageErrorf("--precision is %q; it is fp32, bf16 or int8", o.precision)
	case o.long != model.Truncate && o.long != model.Refuse:
		return usageErrorf("--long is %q; here it is truncate or error", o.long)
	case o.wait < 0 || o.follow < 0 || o.drain < 0 || o.timeout <= 0 || o.cacheMB < 0 || o.maxNewTokens < 0:
		return usageErrorf("a time or a limit is negative")
	case !(o.sampleRate >= 0 && o.sampleRate <= 1):
		return usageErrorf("--sample-rate is %g; it is between 0 and 1", o.sampleRate)
	case o.sampleRate > 0 && o.sampleKey == "":
		return hintedUsageError{usageErrorf("--sample-rate needs --sample-key, for the pseudonyms"), "head -c 32 /dev/urandom | base64 > review.key; chmod 600 review.key"}
	case o.shadowOutput != "" && (o.shadow == "" || o.sampleKey == ""):
		return usageErrorf("--shadow-output goes with --shadow, and with --sample-key for the pseudonyms")
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return usageErrorf("--tls-cert and --tls-key go together")
	case !server.Loopback(o.address) && (o.tlsCert == "" || o.tokenFile == ""):
		return hintedUsageError{usageErrorf("--listen %s can be reached from other machines: it needs --tls-cert, --tls-key and --auth-token-file", o.address), "--listen 127.0.0.1:8080 serves this machine alone"}
	}
	return nil
}

// request turns the command line into what the server is told.
func (o *serveOptions) request(ctx context.Context) (server.Options, error) {
	s := server.Options{
		Main: server.Named{Name: o.model, Ref: o.model}, Fallback: o.fallback, Shadow: o.shadow, Rows: o.rows, Wait: o.wait, Queue: o.queue,
		Timeout: o.timeout, Follow: o.follow, Drain: o.drain, MaxBody: o.maxBody, CacheBytes: o.cacheMB << 20, ScanOutputs: o.scanOutputs,
		LogText: o.logText, Price: o.price,
	}
	for _, also := range o.also {
		name, ref, found := strings.Cut(also, "=")
		if !found {
			name, ref = also, also
		}
		if name == "" || ref == "" {
			return s, usageErrorf("--also %q; it is NAME=REF", also)
		}
		s.Others = append(s.Others, server.Named{Name: name, Ref: ref})
	}
	s.Checks = []server.Check{{Input: "t5ctl"}} // it compiles what requests need
	if o.checks != "" {
		for example, err := range datasets.Read(o.checks, datasets.ReadOptions{Need: datasets.Pairs}) {
			if err != nil {
				return s, err
			}
			if ctx.Err() != nil {
				return s, ctx.Err()
			}
			s.Checks = append(s.Checks, server.Check{Input: example.Input, Target: example.Target})
		}
	}
	var err error
	if o.tokenFile != "" {
		if s.Token, err = server.ReadToken(o.tokenFile); err != nil {
			return s, err
		}
	}
	s.Sampler, err = o.sampler()
	return s, err
}

// sampler opens what keeps requests for review; nil where nothing does.
func (o *serveOptions) sampler() (*server.Sampler, error) {
	if o.sampleRate == 0 {
		return nil, nil
	}
	key, err := o.key()
	if err != nil {
		return nil, err
	}
	dir := o.sampleDir
	if dir == "" {
		dir = filepath.Join(settings.StateHome(), "t5ctl", "samples")
	}
	s := &server.Sampler{Dir: dir, Rate: o.sampleRate, Key: key, Retain: time.Duration(o.sampleDays) * 24 * time.Hour}
	return s, s.Open()
}

// key reads the key of the pseudonyms.
func (o *serveOptions) key() ([]byte, error) {
	if err := server.CheckSecret(o.sampleKey); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(o.sampleKey)
	if err == nil && len(key) < 16 {
		err = &server.SecretError{Path: o.sampleKey, Reason: "must hold at least 16 bytes"}
	}
	return key, err
}

// mirror opens the file that both answers to mirrored requests go to, redacted; nil functions where none is asked for.
func (o *serveOptions) mirror(log *slog.Logger) (write func(server.Pair), end func() error, err error) {
	if o.shadowOutput == "" {
		return nil, func() error { return nil }, nil
	}
	key, err := o.key()
	if err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(o.shadowOutput, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, err
	}
	return func(p server.Pair) { // from one goroutine
		document := pii.Redactor{Key: key}.Document()
		for _, text := range []*string{&p.Input, &p.Main.Output, &p.Shadow.Output} {
			*text, _ = document.Redact(*text)
		}
		line, err := json.Marshal(p)
		if err == nil {
			_, err = file.Write(append(line, '\n'))
		}
		if err != nil {
			log.Error("pair of answers not kept", "id", p.ID, "error", err.Error())
		}
	}, file.Close, nil
}

// transport loads the certificate; nil without one.
func (o *serveOptions) transport() (*tls.Config, error) {
	if o.tlsCert == "" {
		return nil, nil
	}
	if err := server.CheckSecret(o.tlsKey); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
	if err != nil {
		return nil, usageError{fmt.Errorf("loading --tls-cert and --tls-key: %w", err)}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

func runServe(ctx context.Context, app *App, opts serveOptions) (err error) {
	if err := opts.check(); err != nil {
		return err
	}
	transport, err := opts.transport()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(app.Term.Err(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	tracer, flush, err := server.Tracing(ctx, opts.otlp, versionOf().Version)
	if err != nil {
		return err
	}
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if failed := flush(last); failed != nil {
			log.Error("traces not sent", "error", failed.Error())
		}
	}()
	o, err := opts.request(ctx)
	if err != nil {
		return err
	}
	pairs, endPairs, err := opts.mirror(log)
	if err != nil {
		return err
	}
	o.Compare = pairs
	defer func() { err = errors.Join(err, endPairs()) }()
	if o.Sampler != nil {
		defer func() { err = errors.Join(err, o.Sampler.Close()) }()
	}
	backend, err := app.decodingBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.address)
	if err != nil {
		return err
	}
	store := &servedModels{app: app, backend: backend, opts: opts}
	return server.New(store, o, log, tracer).Run(ctx, listener, transport)
}

// serveRules are the failures of serve.
func serveRules() []rule {
	return []rule{
		as(exitUsage, saying[*server.SecretError]("")),
		as(exitUsage, saying[*server.EndpointError]("")),
		as(exitGate, saying[*server.CheckError]("t5ctl generate --model shows what it answers; --fallback names a version to serve instead")),
		as(exitFailed, saying[*server.DrainError]("--drain gives them longer")),
	}
}
