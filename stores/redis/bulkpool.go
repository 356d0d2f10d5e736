package redis

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// bulkPool keeps idle bulk connections, by their server's address; the zero value is ready.
type bulkPool struct {
	mu     sync.Mutex
	idle   map[string][]*bulkConn
	closed bool
}

// with runs do on a connection to the client's server, within the context.
func (p *bulkPool) with(ctx context.Context, client *goredis.Client, do func(*bulkConn) error) error {
	o := client.Options()
	c := p.take(o.Addr)
	if c == nil {
		var err error
		if c, err = dialBulk(ctx, o); err != nil {
			return because(ctx, err)
		}
	}
	if err := c.during(ctx, func() error { return do(c) }); err != nil {
		_ = c.Close()
		return err
	}
	p.give(o.Addr, c)
	return nil
}

func (p *bulkPool) take(addr string) *bulkConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[addr]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	p.idle[addr] = idle[:len(idle)-1]
	return c
}

func (p *bulkPool) give(addr string, c *bulkConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	if p.idle == nil {
		p.idle = map[string][]*bulkConn{}
	}
	p.idle[addr] = append(p.idle[addr], c)
}

func (p *bulkPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, idle := range p.idle {
		for _, c := range idle {
			_ = c.Close()
		}
	}
	p.idle = nil
}
