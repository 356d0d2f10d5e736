//go:build unix

package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wire is one process's connection to one server, through a proxy that can be made faulty.
type wire struct {
	*toxiproxy.Proxy
	address string     // Listen is written again with each Start
	mu      sync.Mutex // one fault at a time
}

func newWire(name, upstream string) (*wire, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	w := &wire{Proxy: toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)}
	err := w.Start()
	w.address = w.Listen
	return w, err
}

// through returns the URL with the wire in place of its server.
func (w *wire) through(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", err
	}
	u.Host = w.address
	return u.String(), nil
}

// toxic is a kind of fault on a wire.
type toxic struct {
	name       string
	kind       string // toxiproxy's; "": connections are refused
	stream     string // upstream, downstream; "": both
	attributes map[string]int
}

const blackHole = 3 // of toxics

var toxics = []toxic{
	{"is slow", "latency", "downstream", map[string]int{"latency": 120, "jitter": 80}},
	{"is very slow", "latency", "upstream", map[string]int{"latency": 600, "jitter": 400}},
	{"resets connections", "reset_peer", "downstream", map[string]int{"timeout": 5}},
	{"is a black hole", "timeout", "", map[string]int{"timeout": 0}},
	{"is half open: requests arrive, answers don't", "timeout", "downstream", map[string]int{"timeout": 0}},
	{"is half open: requests are lost", "timeout", "upstream", map[string]int{"timeout": 0}},
	{"cuts connections after some bytes", "limit_data", "downstream", map[string]int{"bytes": 700}},
	{"refuses connections", "", "", nil},
}

// listen ends a Stop: the port may be another process's for a moment.
func (w *wire) listen(ctx context.Context) error {
	return await(context.WithoutCancel(ctx), time.Minute, "a proxy to listen again", func(context.Context) error { return w.Start() })
}

// inject makes the wire faulty for a while, or until ctx ends.
func (w *wire) inject(ctx context.Context, t toxic, d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.kind == "" {
		w.Stop()
		pause(ctx, d)
		return w.listen(ctx)
	}
	streams := []string{t.stream}
	if t.stream == "" {
		streams = []string{"upstream", "downstream"}
	}
	var added []string
	for _, s := range streams {
		text, err := json.Marshal(map[string]any{"name": t.kind + s, "type": t.kind, "stream": s, "attributes": t.attributes})
		if err != nil {
			return err
		}
		if _, err := w.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		added = append(added, t.kind+s)
	}
	pause(ctx, d)
	for _, name := range added {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		err := w.Toxics.RemoveToxic(bounded, name)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}
