package main

import (
	"context"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/store"
)

// rehearsed is the document of rollback --rehearse.
type rehearsed struct {
	Keys     int64        `json:"keys"`
	Missing  int64        `json:"missing"`
	Unproven int64        `json:"unproven"`
	Refused  []refusedKey `json:"refused"`
	Seconds  float64      `json:"seconds"`
	Stop     float64      `json:"expected_stop_seconds"`
}

// refusedKey is a row that legacy refuses.
type refusedKey struct {
	Key        string `json:"key"`
	Code       string `json:"code,omitempty"`
	Constraint string `json:"constraint,omitempty"`
	Column     string `json:"column,omitempty"`
	Table      string `json:"table,omitempty"`
}

func refusedKeys(refused []store.Refusal) []refusedKey {
	keys := make([]refusedKey, len(refused))
	for i, r := range refused {
		keys[i] = refusedKey{Key: string(r.Key), Code: r.Code, Constraint: r.Constraint, Column: r.Column, Table: r.Table}
	}
	return keys
}

// rehearse rehearses the rollback from retain, and exits as that would.
func (c *cli) rehearse(ctx context.Context, ctl *app.Moves) error {
	r, err := ctl.Rehearse(ctx)
	if err != nil {
		return err
	}
	doc := rehearsed{Keys: r.Keys, Missing: r.Missing, Unproven: r.Unproven, Refused: refusedKeys(r.Refused), Seconds: r.Took.Seconds(), Stop: r.Stop.Seconds()}
	err = c.show(doc, func() {
		for _, refusal := range r.Refused {
			c.printf("refused %q: %s\n", string(refusal.Key), refusal)
		}
		if r.Suspect && r.Unproven > 0 {
			c.printf("%s keys may be lost: the target has nothing of them since the fence, and has lost data\n", humanize.Count(r.Unproven))
		}
		c.printf("%s keys rehearsed in %s: %s refused by legacy, %s lost by the target; writes would wait for about %s\n", humanize.Count(r.Keys),
			humanize.Span(r.Took), humanize.Count(int64(len(r.Refused))), humanize.Count(r.Missing), humanize.Span(r.Stop))
	})
	if err != nil {
		return err
	}
	return r.Check(ctl.Snapshot.Status.Route, 0, false)
}
