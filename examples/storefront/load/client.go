package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"
)

// requestTimeout bounds one request; it must stay below lateWindow.
const requestTimeout = 10 * time.Second

// reply is the answer of an instance.
type reply struct {
	status int
	body   []byte
}

func newClient(connections int) *http.Client {
	return &http.Client{
		Timeout:   requestTimeout,
		Transport: &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: connections, IdleConnTimeout: time.Minute},
	}
}

// send makes one request. An error means that there was no answer.
func (g *Generator) send(ctx context.Context, method, url string, body any) (reply, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		in = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return reply{}, err
	}
	answer, err := g.client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, raw}, err
}

// product is the part of an answer that the ledger needs.
type product struct {
	ID       int64
	Revision int64
	Hash     uint64
}

// parseProduct hashes the content by its meaning: members in any order, numbers by their
// digits. One store may keep a document's text, the other its meaning.
func parseProduct(raw []byte) (p product, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var document map[string]any
	if err := d.Decode(&document); err != nil {
		return p, fmt.Errorf("the answer is no product: %w", err)
	}
	for name, into := range map[string]*int64{"id": &p.ID, "revision": &p.Revision} {
		n, _ := document[name].(json.Number)
		if *into, err = n.Int64(); err != nil {
			return p, fmt.Errorf("the answer has no %s", name)
		}
	}
	canonical, err := json.Marshal(document)
	p.Hash = xxhash.Sum64(canonical)
	return p, err
}
