package dual

import "github.com/stranglerfig/migrator/phases"

// Operation is the argument of Config.OnOperation.
type Operation struct {
	Route phases.Route // as pinned; the operation keeps to it
	Write bool
	// Background: work that outlives the operation which began it, under the same
	// route: a queued write or a shadow read.
	Background bool
	// Lapsed: the lease had expired when the route was pinned.
	Lapsed bool
}

// announce calls the application's OnOperation for a pin that has just been taken. If
// that panics, the pin is released here: no other code has it yet.
func (p *pin) announce(write, background bool) {
	announced := false
	defer func() {
		if !announced {
			p.release()
		}
	}()
	p.end = p.h.onOperation(Operation{Route: p.h.route, Write: write, Background: background, Lapsed: !p.h.lease.valid()})
	announced = true
}

// conclude calls the function that OnOperation returned, while the route is still pinned.
func (p *pin) conclude() {
	end := p.end
	p.end = nil
	defer p.release()
	end()
}
