package redis

import (
	"context"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// bulkPool keeps idle bulk connections; the zero value is ready.
type bulkPool struct {
	mu     sync.Mutex
	idle   []*bulkConn
	closed bool
}

func (p *bulkPool) take(ctx context.Context, o *goredis.Options) (*bulkConn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	return dialBulk(ctx, o)
}

func (p *bulkPool) give(c *bulkConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
}

func (p *bulkPool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
}
