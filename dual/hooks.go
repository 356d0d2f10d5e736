package dual

import "github.com/stranglerfig/migrator/phases"

// Operation is what Config.OnOperation is told of.
type Operation struct {
	Route phases.Route // as pinned; the operation keeps to it
	Write bool
	// Background: work that outlives the operation which began it, under the same
	// route: a queued write or a shadow read.
	Background bool
	// Lapsed: the lease did not hold when the route was pinned.
	Lapsed bool
}

// announce tells the application of a pin that has just been taken. Should its
// function panic, the pin is released: nobody else knows of it yet.
func (p *pin) announce(write, background bool) {
	told := false
	defer func() {
		if !told {
			p.release()
		}
	}()
	p.end = p.h.tell(Operation{Route: p.h.route, Write: write, Background: background, Lapsed: !p.h.lease.holds()})
	told = true
}

// conclude calls what the announcement returned, while the route is still held.
func (p *pin) conclude() {
	end := p.end
	p.end = nil
	defer p.release()
	end()
}
