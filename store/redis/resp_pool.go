package redis

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// bulkPool holds idle bulk connections by their server's address. The zero value is
// ready for use.
type bulkPool struct {
	mu     sync.Mutex
	idle   map[string][]*bulkConn
	closed bool
}

// with runs do on a connection to the client's server, bounded by the context.
func (p *bulkPool) with(ctx context.Context, client *goredis.Client, do func(*bulkConn) error) error {
	done := waitingFor(ctx, client.Options().Addr)
	defer done()
	c, err := p.open(ctx, client)
	if err != nil {
		return err
	}
	if err := c.during(ctx, func() error { return do(c) }); err != nil {
		_ = c.Close()
		return err
	}
	p.give(client, c)
	return nil
}

// open returns an idle connection to the client's server, or makes one.
func (p *bulkPool) open(ctx context.Context, client *goredis.Client) (*bulkConn, error) {
	o := client.Options()
	if c := p.take(o.Addr); c != nil {
		return c, nil
	}
	c, err := dialBulk(ctx, o)
	if err != nil {
		return nil, contextError(ctx, err)
	}
	return c, nil
}

func (p *bulkPool) take(addr string) *bulkConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for idle := p.idle[addr]; len(idle) > 0; idle = p.idle[addr] {
		c := idle[len(idle)-1]
		p.idle[addr] = idle[:len(idle)-1]
		if !c.expired() {
			return c
		}
		_ = c.Close()
	}
	return nil
}

// give returns a connection, which must have no outstanding reply, to the pool.
func (p *bulkPool) give(client *goredis.Client, c *bulkConn) {
	addr := client.Options().Addr
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || c.expired() {
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
