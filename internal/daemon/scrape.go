package daemon

import (
	"bytes"
	"context"
	"net/http"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/metrics"
)

// Scrape returns the metrics of migrations as a daemon's /metrics has them.
func Scrape(ctx context.Context, store *state.Store, names []string) ([]byte, error) {
	handler, err := metrics.Handler(&metrics.Collector{Migrations: names, Read: func(ctx context.Context, name string) (metrics.Reading, error) {
		return readMetrics(ctx, store, name)
	}})
	if err != nil {
		return nil, err
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	var answer inMemory
	handler.ServeHTTP(&answer, ask)
	return answer.Bytes(), nil
}

// inMemory is the answer of a handler that no connection waits for.
type inMemory struct {
	bytes.Buffer
	header http.Header
}

func (m *inMemory) Header() http.Header {
	if m.header == nil {
		m.header = http.Header{}
	}
	return m.header
}

func (m *inMemory) WriteHeader(int) {}
