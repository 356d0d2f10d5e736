package opentelemetry_test

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector receives OTLP over HTTP, as an OpenTelemetry Collector does: gzip, protobuf, /v1/traces.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
	tools []string // names of the tracers
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) receive(w http.ResponseWriter, q *http.Request) {
	fail := func(err error) { http.Error(w, err.Error(), http.StatusBadRequest) }
	if q.Method != http.MethodPost || q.URL.Path != "/v1/traces" || q.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, q.Method+" "+q.URL.Path+" "+q.Header.Get("Content-Type"), http.StatusNotFound)
		return
	}
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			fail(err)
			return
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	if err != nil {
		fail(err)
		return
	}
	var sent collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &sent); err != nil {
		fail(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range sent.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans, c.tools = append(c.spans, s), append(c.tools, scope.GetScope().GetName())
			}
		}
	}
	reply, _ := proto.Marshal(&collectorpb.ExportTraceServiceResponse{})
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(reply)
}

// provider exports every span to the collector. flush returns what it has received.
func (c *collector) provider(t *testing.T) (provider *sdktrace.TracerProvider, flush func() *received) {
	t.Helper()
	exporter, err := otlptracehttp.New(t.Context(), otlptracehttp.WithEndpointURL(c.URL+"/v1/traces"), otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	t.Cleanup(func() { _ = provider.Shutdown(context.WithoutCancel(t.Context())) })
	return provider, func() *received {
		t.Helper()
		if err := provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return &received{t: t, spans: slices.Clone(c.spans), tools: slices.Clone(c.tools)}
	}
}

// received are spans that the collector has.
type received struct {
	t     *testing.T
	spans []*tracepb.Span
	tools []string
}

// only returns the one span with a name and attributes.
func (r *received) only(name string, with ...string) *tracepb.Span {
	r.t.Helper()
	all := r.all(name, with...)
	if len(all) != 1 {
		r.t.Fatalf("%d spans are %s %v, want one; all:\n%s", len(all), name, with, r)
	}
	return all[0]
}

func (r *received) all(name string, with ...string) (found []*tracepb.Span) {
	for _, s := range r.spans {
		have := attributes(s.GetAttributes())
		missing := func(want string) bool { return !slices.Contains(have, want) }
		if s.GetName() == name && !slices.ContainsFunc(with, missing) {
			found = append(found, s)
		}
	}
	return found
}

func (r *received) String() string {
	var b strings.Builder
	for _, s := range r.spans {
		b.WriteString(hex.EncodeToString(s.GetSpanId()) + " in " + hex.EncodeToString(s.GetParentSpanId()) + ": " + s.GetName() + " " + strings.Join(attributes(s.GetAttributes()), " ") + "\n")
	}
	return b.String()
}

// attributes are "key=value" each.
func attributes(all []*commonpb.KeyValue) (found []string) {
	for _, a := range all {
		text := a.GetValue().GetStringValue()
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_IntValue:
			text = strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			text = map[bool]string{true: "true", false: "false"}[v.BoolValue]
		}
		found = append(found, a.GetKey()+"="+text)
	}
	return found
}
