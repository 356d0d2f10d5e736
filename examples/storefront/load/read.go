package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// read reads one product and checks the answer.
func (g *Generator) read(ctx context.Context, random *rand.Rand, id int64) {
	r := g.ledger.BeginRead(id)
	began := time.Now()
	verdict, detail, err := g.checkedRead(ctx, r, g.url(random, "/products/%d", id))
	if err != nil {
		g.failedReads.Add(1)
		g.failure(http.MethodGet, fmt.Sprintf("/products/%d", id), reply{}, err)
		return
	}
	g.readTimes.add(time.Since(began))
	g.violation(verdict, detail)
}

// checkedRead makes the request of a read. On an error nothing was read.
func (g *Generator) checkedRead(ctx context.Context, r Read, url string) (Verdict, string, error) {
	answer, err := g.send(ctx, http.MethodGet, url, nil)
	switch {
	case err != nil:
		return "", "", err
	case answer.status == http.StatusNotFound:
		verdict, detail := r.Saw(false, 0, 0)
		return verdict, detail, nil
	case answer.status != http.StatusOK:
		return "", "", fmt.Errorf("status %d: %s", answer.status, bytes.TrimSpace(answer.body))
	}
	p, err := parseProduct(answer.body)
	if err != nil {
		return "", "", err
	}
	verdict, detail := r.Saw(true, p.Revision, p.Hash)
	return verdict, detail, nil
}

// Verify reads every product of the ledger, after Run has returned: an acknowledged write that
// is missing now is lost. The error is ctx's.
func (g *Generator) Verify(ctx context.Context) error {
	ids := g.ledger.IDs()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for n := range g.set.Readers + g.set.Writers {
		random := rand.New(rand.NewPCG(uint64(n), 3))
		group.Go(func() error {
			for at := next.Add(1) - 1; at < int64(len(ids)); at = next.Add(1) - 1 {
				if err := g.verify(ctx, random, ids[at]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	g.client.CloseIdleConnections()
	g.unverified.Add(int64(len(ids)) - g.verified.Load())
	return err
}

func (g *Generator) verify(ctx context.Context, random *rand.Rand, id int64) error {
	const attempts = 5
	r := g.ledger.BeginRead(id)
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for range attempts {
		verdict, detail, err := g.checkedRead(ctx, r, g.url(random, "/products/%d", id))
		if err == nil {
			g.verified.Add(1)
			switch verdict {
			case Stale:
				g.lost.Add(1)
				g.note("lost: " + detail)
			case Wrong:
				g.violation(verdict, detail)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
	return nil // counted as unverified
}
