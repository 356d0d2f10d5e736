package state_test

import (
	"context"
	"testing"

	"github.com/stranglerfig/migrator/dual"
	"github.com/stranglerfig/migrator/dual/httpfleet"
	"github.com/stranglerfig/migrator/dual/pgfleet"
	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/test/apitest"
)

// fleet is all that a fleet may be.
type fleet interface {
	dual.Fleet
	dual.Notifier
	dual.EmergencyRollback
	dual.StateLossReporter
	dual.ReturnJournal
	dual.JournalReader
	dual.CaptureReader
	dual.ColumnsReader
	dual.Observer
	dual.FaultSwitch
	AppliedFile(ctx context.Context) ([]byte, error)
}

// over connects instances with a state.
type over struct {
	http    bool
	connect func(migration string, o pgfleet.Options) fleet
}

func (v over) join(t *testing.T, name string, o pgfleet.Options) *instance {
	t.Helper()
	f := v.connect(testMigration, o)
	g, err := f.Join(t.Context(), dual.Identity{Instance: name, About: "test"})
	must(t, err)
	return &instance{fleet: f, grant: g}
}

// overPostgres connects directly.
func overPostgres(s *state.Store) over {
	return over{connect: func(migration string, o pgfleet.Options) fleet { return pgfleet.New(s.Pool(), migration, o) }}
}

// overHTTP connects by a daemon's HTTP API, with an application's token. The first address is of nothing that answers.
func overHTTP(t *testing.T, s *state.Store, url string) over {
	t.Helper()
	api := apitest.New(t, s, url)
	_, token := api.Application("*")
	return over{http: true, connect: func(migration string, o pgfleet.Options) fleet {
		f, err := httpfleet.New(migration, httpfleet.Options{URLs: []string{"http://127.0.0.1:1", api.URL}, Token: token, Lease: o.Lease, Renew: o.Renew})
		must(t, err)
		t.Cleanup(f.Close)
		return f
	}}
}

// overEach runs a test of what a fleet does once for each way to the state, each time with a database of its own.
func overEach(t *testing.T, test func(t *testing.T, s *state.Store, v over)) {
	t.Helper()
	t.Parallel()
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		s, _ := open(t)
		test(t, s, overPostgres(s))
	})
	t.Run("HTTP", func(t *testing.T) {
		t.Parallel()
		s, url := open(t)
		test(t, s, overHTTP(t, s, url))
	})
}
