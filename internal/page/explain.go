package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/stranglerfig/migrator/internal/judge"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/phases"
)

// explained is one gate or trigger with its inputs, evaluated again, and its past.
type explained struct {
	Migration, Name string
	Kind            phases.Kind
	Newest          *phases.Evaluation
	Again           phases.Verdict
	Inputs, Remedy  string
	Before          []phases.Evaluation
}

const explainedShown = 50

func (p *Page) showExplained(w http.ResponseWriter, r *http.Request) {
	name, kind := r.PathValue("migration"), phases.Kind(r.PathValue("kind"))
	b, picture, err := p.full(r.Context(), name)
	if !p.found(w, r, picture, err) {
		return
	}
	if kind != phases.GateKind && kind != phases.TriggerKind {
		p.fail(w, r, http.StatusNotFound, errors.New("there are gates and triggers"))
		return
	}
	all, err := p.State.Evaluations(r.Context(), name, state.EvaluationFilter{Kind: kind, Name: r.PathValue("name"), Limit: explainedShown})
	if !p.found(w, r, picture, err) {
		return
	}
	if len(all) == 0 {
		p.fail(w, r, http.StatusNotFound, errors.New("no evaluation of it is kept: it is off, is not measured, or there is no such gate or trigger"))
		return
	}
	x := &explained{Migration: name, Name: r.PathValue("name"), Kind: kind, Newest: &all[0], Before: all[1:]}
	if again, err := judge.Reevaluate(all[0]); err == nil {
		x.Again = again.Verdict
	}
	if !all[0].Hint.IsZero() && all[0].Verdict != phases.Pass {
		x.Remedy = p.Remedy(name, all[0].Hint)
	}
	var inputs bytes.Buffer
	// Those of a trigger may have what a source has answered: /status has them no more.
	if (kind == phases.GateKind || p.mayRead(r, name)) && json.Indent(&inputs, all[0].Inputs, "", "  ") == nil {
		x.Inputs = inputs.String()
	}
	p.show(w, r, http.StatusOK, view{Title: x.Name + " of " + name, Board: b, Picture: picture, Explained: x}, nil)
}
