//go:build unix

package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// client makes one operation after the other, three of four on one instance while that runs.
// Otherwise all clients would soon wait for the frozen instance.
type client struct {
	w       *world
	number  int
	keys    int
	random  *rand.Rand
	http    http.Client
	counter int64
	sent    func() // called when a request has been sent; may be nil
}

func newClient(w *world, seed uint64, number, keys int) *client {
	return &client{
		w: w, number: number, keys: keys, random: newRandom(seed, 1000+uint64(number)),
		http: http.Client{Timeout: 2 * w.requestFor, Transport: &http.Transport{MaxIdleConnsPerHost: 4}},
	}
}

// run makes operations until ctx ends; an operation that has begun is finished.
func (c *client) run(ctx context.Context) error {
	for pause(ctx, time.Duration(5+c.random.IntN(20))*time.Millisecond) {
		s := c.w.instances[c.random.IntN(len(c.w.instances))]
		if home := c.w.instances[c.number%len(c.w.instances)]; c.number%4 != 0 && home.url.Load() != nil {
			s = home
		}
		key, dice := c.random.IntN(c.keys), c.random.IntN(100)
		switch {
		case dice < 55:
			c.do(s, get, key)
		case dice < 92:
			c.do(s, put, key)
		default:
			c.do(s, del, key)
		}
	}
	c.http.CloseIdleConnections()
	return nil
}

// do makes one operation and records it, also if it fails.
func (c *client) do(s *instance, k kind, key int) *operation {
	at := s.url.Load()
	if at == nil {
		return nil // no instance runs
	}
	o := &operation{Client: c.number, Instance: s.place, Key: key, Kind: k}
	target := fmt.Sprintf("%s/cells/%d", *at, key)
	method := http.MethodGet
	switch k {
	case put:
		c.counter++
		o.Value = fmt.Sprintf("%d.%d", c.number, c.counter)
		method = http.MethodPut
		target += "?" + url.Values{"value": {o.Value}, "seq": {fmt.Sprint(c.counter)}}.Encode()
	case del:
		method = http.MethodDelete
	}
	o.Call = c.w.events.now()
	answered, err := c.ask(method, target)
	o.Return = c.w.events.now()
	o.Outcome, o.Exception, o.Route, o.Err = answered.Outcome, answered.Exception, answered.Route, answered.Error
	if err != nil {
		o.Outcome, o.Err = unknown, err.Error()
	}
	if k == get {
		if o.Value = answered.Value; o.Outcome != done {
			o.Outcome = failed
		}
	}
	c.w.history.add(o)
	return o
}

func (c *client) ask(method, target string) (a answer, err error) {
	ctx := context.Background()
	if c.sent != nil {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { c.sent() }})
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return a, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return a, err
	}
	if a.Outcome == "" {
		return a, fmt.Errorf("status %d without an outcome", resp.StatusCode)
	}
	return a, nil
}
