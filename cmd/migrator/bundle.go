package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"time"

	"github.com/stranglerfig/migrator/internal/app"
	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/reconciles"
	"github.com/stranglerfig/migrator/internal/state/runbooks"
	"github.com/stranglerfig/migrator/migration"
)

const (
	bundledEntries = 500 // of the history
	bundledRuns    = 50
)

// bundle collects the files of a support bundle. What can't be read is listed in errors.json.
type bundle struct {
	files  []bundledFile
	errors map[string]string
}

type bundledFile struct {
	name string
	text []byte
}

// add adds a document; err says why there is none.
func (b *bundle) add(name string, v any, err error) {
	var text []byte
	if err == nil {
		text, err = json.MarshalIndent(v, "", "  ")
	}
	if err != nil {
		b.errors[name] = oneline.MaskURLs(err.Error())
		return
	}
	b.files = append(b.files, bundledFile{name, []byte(oneline.MaskURLs(string(text)) + "\n")})
}

// writeBundle writes a support bundle to a new file that only this user may read.
func (c *cli) writeBundle(ctx context.Context, to string, m *migration.Config, doctor *preflight.Report) (err error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return usageTry(try("--bundle with the path of a file that does not exist yet"), "the bundle can't be written: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(to)
		}
	}()
	b := &bundle{errors: map[string]string{}}
	settings, _ := c.shownSettings()
	b.add("version.json", thisVersion(), nil)
	b.add("settings.json", settings, nil)
	b.add("doctor.json", doctor, nil)
	if m != nil {
		b.add("migration-file.json", migration.Redacted(m), nil)
	}
	store, err := c.openState(ctx)
	if err != nil {
		b.add("state", nil, err)
	} else {
		defer store.Close()
		b.addState(ctx, store)
	}
	b.add("errors.json", b.errors, nil)
	return b.write(f)
}

func (b *bundle) addState(ctx context.Context, store *state.Store) {
	sessions, err := store.Sessions(ctx)
	b.add("sessions.json", sessions, err)
	all, err := store.List(ctx)
	if err != nil {
		b.add("state", nil, err)
		return
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Migration)
		b.addMigration(ctx, store, one.Migration)
	}
	text, err := daemon.Scrape(ctx, store, names)
	if err != nil {
		b.add("metrics.txt", nil, err)
		return
	}
	b.files = append(b.files, bundledFile{"metrics.txt", text})
}

func (b *bundle) addMigration(ctx context.Context, store *state.Store, name string) {
	in := func(file string) string { return path.Join(name, file) }
	applied, err := app.Applied(ctx, store, name)
	if err == nil {
		applied = migration.Redacted(applied)
	}
	b.add(in("applied.json"), applied, err)
	status, err := app.ReadStatus(ctx, store, name)
	b.add(in("status.json"), status, err)
	history, err := store.History(ctx, name, bundledEntries)
	b.add(in("history.json"), history, err)
	epochs, err := store.Epochs(ctx, name, bundledEntries)
	b.add(in("epochs.json"), epochs, err)
	leases, err := store.Leases(ctx, name)
	b.add(in("fleet.json"), leases, err)
	evaluations, err := store.Evaluations(ctx, name, state.EvaluationFilter{Newest: true})
	b.add(in("evaluations.json"), evaluations, err)
	triggers, _, err := app.ReadTriggers(ctx, store, name)
	b.add(in("triggers.json"), triggers, err)
	runs, err := reconciles.New(store.Pool(), name).List(ctx, bundledRuns)
	b.add(in("reconcile.json"), runs, err)
	books, err := runbooks.New(store.Pool(), name).List(ctx, bundledRuns)
	b.add(in("runbooks.json"), books, err)
}

func (b *bundle) write(f *os.File) error {
	var archive bytes.Buffer
	zip := gzip.NewWriter(&archive)
	out := tar.NewWriter(zip)
	now := time.Now()
	for _, one := range b.files {
		err := out.WriteHeader(&tar.Header{Name: path.Join("migrator-support", one.name), Mode: 0o600, Size: int64(len(one.text)), ModTime: now})
		if err == nil {
			_, err = out.Write(one.text)
		}
		if err != nil {
			return fmt.Errorf("the bundle can't be written: %w", err)
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		return fmt.Errorf("the bundle can't be written: %w", err)
	}
	if _, err := f.Write(archive.Bytes()); err != nil {
		return fmt.Errorf("the bundle can't be written: %w", err)
	}
	return nil
}
