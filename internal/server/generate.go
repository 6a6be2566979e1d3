package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/t5ctl/t5ctl/internal/pii"
)

// call is one request to /v1/generate on its way.
type call struct {
	server  *Server
	writer  *statusWriter
	id      string
	arrived time.Time
	span    trace.Span
	request Request
	lane    *lane // nil until one is reached
	job     *Job
	began   time.Time // decoding; zero where it did not come to that
	share   float64   // of the time of decoding, in seconds
	growing *growing  // nil unless the answer is streamed
	answer  Answer
	err     error // why there is no answer
}

// statusWriter remembers what was answered, and gives a client that does not read up.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writeTimeout is how long a client may take to read one piece of an answer.
const writeTimeout = 15 * time.Second

// statusGone is what is counted and logged for a client that left before its answer.
const statusGone = 499

func (s *Server) generate(w http.ResponseWriter, r *http.Request) {
	c := &call{server: s, writer: &statusWriter{ResponseWriter: w}, id: requestID(r), arrived: time.Now()}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, c.span = s.tracer.Start(ctx, "generate", trace.WithSpanKind(trace.SpanKindServer))
	ctx, cancel := context.WithDeadline(ctx, c.arrived.Add(s.options.Timeout))
	defer cancel()
	c.writer.Header().Set("X-Request-Id", c.id)
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	s.guard(func(http.ResponseWriter, *http.Request) { c.handle(ctx, r) })(c.writer, r)
	if c.lane != nil {
		c.lane.leave()
	}
	c.record(ctx)
}

func (c *call) handle(ctx context.Context, r *http.Request) {
	if !c.read(r) || !c.plan() {
		return
	}
	key := cacheKey(c.lane, c.job.Plan.Key, c.request.Input)
	keep := c.job.Plan.Key != "" && !c.request.NoCache && c.server.cache != nil
	if keep {
		found, ok := c.server.cache.find(key)
		c.server.metrics.cache.WithLabelValues(c.lane.version.Model, c.lane.version.Number, map[bool]string{true: "hit", false: "miss"}[ok]).Inc()
		if ok {
			c.answer = found
			c.answer.ID, c.answer.Cached, c.answer.QueueMS, c.answer.TotalMS = c.id, true, 0, milliseconds(time.Since(c.arrived))
			c.answer.Usage.DecodeMS, c.answer.Usage.Cost = 0, 0
			c.write()
			return
		}
	}
	if !c.decode(ctx) {
		return
	}
	if keep {
		c.server.cache.keep(key, c.answer)
	}
	c.after()
}

// read reads the request; no says that it was refused.
func (c *call) read(r *http.Request) bool {
	s := c.server
	if s.draining.Load() {
		c.writer.Header().Set("Connection", "close") // what still came in is answered
	}
	if !s.ready.Load() {
		c.writer.Header().Set("Retry-After", "5")
		s.refuse(c.writer, http.StatusServiceUnavailable, "loading", "the model is being loaded")
		return false
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		s.refuse(c.writer, http.StatusUnsupportedMediaType, "bad_request", "the Content-Type must be application/json")
		return false
	}
	if r.ContentLength > s.options.MaxBody {
		r.Body = http.NoBody // it is not waited for
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.writer, r.Body, s.options.MaxBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); err != nil || r.ContentLength > s.options.MaxBody {
		if large || err == nil {
			c.writer.Header().Set("Connection", "close")
			s.refuse(c.writer, http.StatusRequestEntityTooLarge, "too_large", "the body is larger than "+strconv.FormatInt(s.options.MaxBody, 10)+" bytes")
			return false
		}
		c.err = err
		s.refuse(c.writer, http.StatusRequestTimeout, "bad_request", "the body did not come to its end")
		return false
	}
	if c.request, err = ParseRequest(body); err != nil {
		s.refuse(c.writer, http.StatusBadRequest, "bad_request", err.Error())
		return false
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		c.request.Stream = true
	}
	c.span.SetAttributes(attribute.Bool("t5ctl.stream", c.request.Stream))
	c.job = &Job{}
	if c.request.Stream {
		c.growing = &growing{lines: strings.Contains(r.Header.Get("Accept"), "application/x-ndjson"), changed: make(chan struct{}, 1)}
		c.job.Wrote = c.growing.wrote
	}
	return true
}

// plan finds the version and makes work of the input.
func (c *call) plan() bool {
	s := c.server
	to, err := s.versions.route(c.request.Model)
	if missing, ok := errors.AsType[*RouteError](err); ok {
		s.refuse(c.writer, http.StatusNotFound, "not_found", missing.Error()+"; there are "+strings.Join(missing.Known, ", "))
		return false
	}
	l, ok := to.enter()
	if !ok {
		c.writer.Header().Set("Retry-After", "5")
		s.refuse(c.writer, http.StatusServiceUnavailable, "loading", "no version of "+to.name+" is loaded")
		return false
	}
	c.lane = l
	v := l.version
	c.writer.Header().Set("X-T5ctl-Version", v.String())
	c.span.SetAttributes(attribute.String("t5ctl.model", v.Model), attribute.String("t5ctl.version", v.Number), attribute.String("t5ctl.digest", v.Digest))
	plan, err := l.model.Plan(c.request.Input, c.request.Settings)
	if wrong, ok := errors.AsType[*RequestError](err); ok {
		s.refuse(c.writer, http.StatusBadRequest, "bad_request", wrong.Reason)
		return false
	}
	if err != nil {
		c.err = err
		fail(c.writer, http.StatusInternalServerError, "failed", "the model failed")
		return false
	}
	c.job.Plan = plan
	return true
}

// decode waits for the queue and answers.
func (c *call) decode(ctx context.Context) bool {
	s, j := c.server, c.job
	j.lane, j.ctx, j.arrived, j.done = c.lane, ctx, time.Now(), make(chan outcome, 1)
	if err := s.queue.put(j, false); err != nil {
		if full, ok := errors.AsType[*FullError](err); ok {
			c.writer.Header().Set("Retry-After", "1")
			s.refuse(c.writer, http.StatusTooManyRequests, "queue_full", full.Error())
			return false
		}
		s.refuse(c.writer, http.StatusServiceUnavailable, "draining", err.Error())
		return false
	}
	out := c.wait(ctx)
	if out.err != nil {
		c.failed(ctx, out.err)
		return false
	}
	c.began = j.started
	c.share = out.result.share
	perSecond, mean := s.options.Price/3600, c.lane.took(c.share)
	c.answer = Answer{
		ID: c.id, Model: c.lane.version.String(), Digest: c.lane.version.Digest, Output: out.result.Outputs[0].Text, Outputs: out.result.Outputs,
		Usage: Usage{
			InputTokens: j.Plan.InputTokens, OutputTokens: out.result.Tokens, InputTruncated: j.Plan.Truncated,
			DecodeMS: math.Round(c.share*1e6) / 1e3, Cost: perSecond * c.share, CostPer1000: perSecond * mean * 1000,
		}, Seed: j.Plan.Seed,
		QueueMS: milliseconds(c.began.Sub(c.arrived)), TotalMS: milliseconds(time.Since(c.arrived)),
	}
	c.write()
	return true
}

// failed answers a request that was let in and came to nothing.
func (c *call) failed(ctx context.Context, err error) {
	c.err = err
	if wrong, ok := errors.AsType[*RequestError](err); ok { // found while it was decoded
		c.fail(http.StatusUnprocessableEntity, "no_output", wrong.Reason)
		return
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		c.writer.Header().Set("Retry-After", "1")
		c.fail(http.StatusGatewayTimeout, "timeout", "there was no answer within "+c.server.options.Timeout.String())
	case ctx.Err() != nil:
		c.writer.status = statusGone
	case errors.Is(err, errStopped), errors.Is(err, context.Canceled):
		c.fail(http.StatusServiceUnavailable, "draining", "the server stops")
	default:
		c.fail(http.StatusInternalServerError, "failed", "the model failed")
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// after counts an answer that was decoded, and gives it to those who look on.
func (c *call) after() {
	m, v := c.server.metrics, c.lane.version
	m.queued.WithLabelValues(v.Model, v.Number).Observe(c.began.Sub(c.arrived).Seconds())
	m.inputs.WithLabelValues(v.Model, v.Number).Add(float64(c.answer.Usage.InputTokens))
	m.outputs.WithLabelValues(v.Model, v.Number).Add(float64(c.answer.Usage.OutputTokens))
	m.decoded(v, c.share, c.server.options.Price)
	if c.answer.Outputs[0].Cut {
		m.limitHits.WithLabelValues(v.Model, v.Number).Inc()
	}
	if c.answer.Output == "" {
		m.empty.WithLabelValues(v.Model, v.Number).Inc()
	}
	if c.answer.Usage.InputTruncated {
		m.truncated.WithLabelValues(v.Model, v.Number).Inc()
	}
	if c.server.options.ScanOutputs {
		for _, span := range pii.Scan(c.answer.Output) {
			m.policyHits.WithLabelValues(v.Model, v.Number, span.Type).Inc()
		}
	}
}

// record ends the request in metrics, trace and log.
func (c *call) record(ctx context.Context) {
	took := time.Since(c.arrived)
	var v Version
	if c.lane != nil {
		v = c.lane.version
	}
	c.server.metrics.answered(v, c.writer.status, took)
	fields := []slog.Attr{
		slog.String("id", c.id), slog.Int("status", c.writer.status), slog.String("model", v.Model), slog.String("version", v.Number),
		slog.Float64("total_ms", milliseconds(took)), slog.Float64("queue_ms", c.answer.QueueMS), slog.Int("input_tokens", c.answer.Usage.InputTokens),
		slog.Int("output_tokens", c.answer.Usage.OutputTokens), slog.Bool("stream", c.request.Stream), slog.Bool("cached", c.answer.Cached),
	}
	if span := c.span.SpanContext(); span.IsValid() {
		fields = append(fields, slog.String("trace_id", span.TraceID().String()))
	}
	if len(c.answer.Outputs) > 0 {
		fields = append(fields, slog.Bool("cut", c.answer.Outputs[0].Cut))
	}
	if c.server.options.LogText {
		fields = append(fields, slog.String("input", c.request.Input), slog.String("output", c.answer.Output))
	}
	level := slog.LevelInfo
	if c.err != nil {
		fields = append(fields, slog.String("error", c.err.Error()))
		if c.writer.status >= 500 {
			level = slog.LevelError
			c.span.SetStatus(codes.Error, c.err.Error())
		}
	}
	c.server.log.LogAttrs(ctx, level, "request", fields...)
	c.span.SetAttributes(
		attribute.String("t5ctl.request_id", c.id), attribute.Int("http.response.status_code", c.writer.status), attribute.Bool("t5ctl.cached", c.answer.Cached),
		attribute.Float64("t5ctl.queue_ms", c.answer.QueueMS), attribute.Int("t5ctl.input_tokens", c.answer.Usage.InputTokens),
		attribute.Int("t5ctl.output_tokens", c.answer.Usage.OutputTokens))
	if !c.began.IsZero() {
		_, wait := c.server.tracer.Start(ctx, "queue", trace.WithTimestamp(c.arrived))
		wait.End(trace.WithTimestamp(c.began))
		_, work := c.server.tracer.Start(ctx, "decode", trace.WithTimestamp(c.began))
		work.End()
	}
	c.span.End()
	if c.writer.status == http.StatusOK {
		c.server.options.Sampler.take(c, c.server.metrics)
		c.server.mirror.offer(c, took)
	}
}
