package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/runbook"
	"github.com/stranglerfig/migrator/store"
)

// Runbooks has the runbooks of one migration, and what their steps need.
type Runbooks struct {
	Config *migration.Config // the migration file on this machine; without one, the applied one
	State  *state.Store
	At     phases.Status

	File         string // that Config was read from; "": none
	StateURL     string
	StateURLFile string // that StateURL was read from; "": none
}

// RunbookVerdict is the result of one runbook's verification.
type RunbookVerdict struct {
	phases.VerificationResult
	File   string        `json:"file,omitempty"`
	Checks []store.Check `json:"checks"`
}

// lookupWithin is how long DNS lookups for a rendered runbook may take.
const lookupWithin = 5 * time.Second

// Render writes the migration's own rollback or cutover runbook. It needs the migration file:
// the state database does not have the migration's surroundings (DNS, connections).
func (b *Runbooks) Render(ctx context.Context, name string) ([]byte, error) {
	if b.File == "" {
		return nil, ErrNoFile
	}
	if err := b.checkApplied(ctx); err != nil {
		return nil, err
	}
	f := runbook.Facts{ConfigHash: b.At.ConfigHash}
	if role := b.Config.Phases.Approval.Role; role != "" {
		members, err := b.State.Members(ctx, role)
		if err != nil {
			return nil, err
		}
		f.Deciders = members
	}
	dns := b.Config.Runbook.DNS
	within, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	for _, host := range dns.Hosts {
		ttl, err := runbook.LookupTTL(within, dns.Server, host)
		if err != nil {
			f.TTLErrors = append(f.TTLErrors, err.Error())
			continue
		}
		f.TTLs = append(f.TTLs, ttl)
	}
	text, err := runbook.Render(name, b.Config, f)
	if err != nil {
		return nil, err
	}
	if _, err := runbook.Parse(name, text, nil); err != nil {
		return nil, fmt.Errorf("the rendered %s is not a valid runbook: %w", name, err)
	}
	return text, nil
}

// checkApplied refuses a migration file that is not the applied one.
func (b *Runbooks) checkApplied(ctx context.Context) error {
	if b.File == "" {
		return nil
	}
	m, err := appliedColumns(ctx, b.State, b.Config)
	if err != nil {
		return err
	}
	return checkHash(m, b.File, b.At.ConfigHash)
}

// Open reads a file and returns its path, or renders one of runbook.Rendered. It refuses a
// runbook that applies to something else. begins means that it will run from its first step.
func (b *Runbooks) Open(ctx context.Context, what string, begins bool) (*runbook.Runbook, string, error) {
	r, path, err := b.read(ctx, what)
	if err == nil {
		err = b.checkAppliesTo(r, begins)
	}
	return r, path, err
}

func (b *Runbooks) read(ctx context.Context, what string) (*runbook.Runbook, string, error) {
	if !slices.Contains(runbook.Rendered, what) {
		r, err := runbook.Load(what, runbook.Values(b.Config))
		switch {
		case errors.Is(err, os.ErrNotExist):
			err = refuseHint(hint.Hint{Do: hint.RunbookRender, Of: runbook.Rendered[:1]}, "%w; the runbooks that can be rendered are %s", err, strings.Join(runbook.Rendered, ", "))
		case err != nil:
			err = &InputError{err}
		}
		return r, what, err
	}
	text, err := b.Render(ctx, what)
	if err != nil {
		return nil, "", err
	}
	r, err := runbook.Parse(what, text, nil)
	if r != nil {
		r.File = b.File // its connections' files are beside the migration file
	}
	return r, "", err
}

func (b *Runbooks) checkAppliesTo(r *runbook.Runbook, begins bool) error {
	a := r.AppliesTo
	switch {
	case len(a.Migrations) > 0 && !slices.Contains(a.Migrations, b.Config.Name):
		return refuseHint(hint.Hint{Do: hint.RunbookRender, Of: runbook.Rendered[:1]}, "%s is for %s, not for %s", r.Name, strings.Join(a.Migrations, ", "), b.Config.Name)
	case len(a.Environments) > 0 && !slices.Contains(a.Environments, b.Config.Environment):
		return refuse("%s is for %s, and the environment of %s is %s", r.Name, strings.Join(a.Environments, ", "), b.Config.Name, b.Config.Environment)
	case begins && len(a.Phases) > 0 && !slices.Contains(a.Phases, b.At.Route.Phase):
		words := make([]string, len(a.Phases))
		for i, p := range a.Phases {
			words[i] = string(p)
		}
		return refuseHint(hint.Hint{Do: hint.Status}, "%s is for the phases %s, and %s is on %s", r.Name, strings.Join(words, ", "), b.Config.Name, b.At.Route)
	case r.ConfigHash != "" && r.ConfigHash != b.At.ConfigHash:
		return refuseHint(hint.Hint{Do: hint.RunbookRender, Of: []string{r.Name}}, "%s was rendered from the configuration %s, and %s is applied", r.Name, humanize.Short(r.ConfigHash), humanize.Short(b.At.ConfigHash))
	}
	return nil
}

// Begin opens a runbook and records a run of it. With another, it does so even if a run of it
// has not ended.
func (b *Runbooks) Begin(ctx context.Context, what string, another bool) (*runbook.Runbook, runbooks.Run, error) {
	r, path, err := b.Open(ctx, what, true)
	if err == nil && path != "" {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, runbooks.Run{}, err
	}
	run, err := runbooks.New(b.State.Pool(), b.Config.Name).Begin(ctx, r, path, another)
	var open *runbooks.UnfinishedError
	if errors.As(err, &open) {
		err = notYetHint(hint.Hint{Do: hint.RunbookResume, Of: []string{runID(open.Run.ID)}, Text: "or begin another run of it"}, "%w", err)
	}
	return r, run, err
}

// Reread returns the runbook of a recorded run, with the values of the time when it began.
func (b *Runbooks) Reread(run runbooks.Run) (*runbook.Runbook, error) {
	r, err := runbook.Reread(fmt.Sprintf("run %d", run.ID), run.Source)
	if err != nil {
		return nil, err
	}
	if r.File = run.Path; r.File == "" {
		r.File = b.File
	}
	return r, nil
}

// Verify checks whether every step could run, without running any, and records the result.
// command parses a command line of migrator.
func (b *Runbooks) Verify(ctx context.Context, what string, command func(words []string) error) (v RunbookVerdict, err error) {
	r, path, err := b.Open(ctx, what, false)
	if err == nil { // the result is recorded for the applied migration file
		err = b.checkApplied(ctx)
	}
	if err != nil {
		return v, err
	}
	tools, err := b.Executor(r, runbooks.Run{UID: "verify"})
	if err != nil {
		return v, err
	}
	v.File, v.Checks = path, tools.Verify(ctx, prober{b.console(r), b.State, command})
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	passed := !slices.ContainsFunc(v.Checks, func(c store.Check) bool { return c.Result == store.Refused })
	v.VerificationResult, err = runbooks.New(b.State.Pool(), b.Config.Name).Verified(ctx, r.Name, r.Source, passed, v.Checks)
	return v, err
}
