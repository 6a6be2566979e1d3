package server

import (
	"context"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing gives the tracer that sends spans to an OTLP/HTTP collector, such as
// http://127.0.0.1:4318, and what sends the rest at the end. Without an endpoint nothing is sent.
func Tracing(ctx context.Context, endpoint, version string) (trace.Tracer, func(context.Context) error, error) {
	if endpoint == "" {
		return noop.NewTracerProvider().Tracer("t5ctl"), func(context.Context) error { return nil }, nil
	}
	to, err := url.Parse(endpoint)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return nil, nil, &EndpointError{Endpoint: endpoint}
	}
	if to.Path == "" || to.Path == "/" {
		to.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(to.String()))
	if err != nil {
		return nil, nil, err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "t5ctl"), attribute.String("service.version", version))))
	return provider.Tracer("t5ctl"), provider.Shutdown, nil
}

// EndpointError says that an address is none of a collector.
type EndpointError struct{ Endpoint string }

func (e *EndpointError) Error() string {
	return "collector " + e.Endpoint + ": an address is like http://127.0.0.1:4318"
}
