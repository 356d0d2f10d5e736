package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/store"
)

// standby is a legacy store whose standby is behind.
type standby struct {
	store.Legacy
	behind time.Duration
	err    error
}

func (s standby) Load(context.Context) (store.Load, error) {
	return store.Load{StandbyLag: s.behind}, s.err
}

func TestRunWaitsForLaggingStandby(t *testing.T) {
	t.Parallel()
	m := &migration.Config{}
	m.Reconcile.StopOn.ReplicationLag = phases.Duration(10 * time.Second)
	for _, c := range []struct {
		legacy    store.Legacy
		why, fail string
	}{
		{standby{behind: 10 * time.Second}, "", ""},
		{standby{behind: 11 * time.Second}, "a standby of legacy is 11s behind, more than 10s", ""},
		{standby{err: errors.New("gone")}, "", "gone"},
		{struct{ store.Legacy }{}, "", "does not report"},
	} {
		why, err := mustWait(t.Context(), &Job{Config: m, Legacy: c.legacy})
		if why != c.why || (err != nil) != (c.fail != "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%+v: %q, %v", c, why, err)
		}
	}
}

func TestRunWaitsForPrometheus(t *testing.T) {
	t.Parallel()
	vector := func(value string) string {
		return fmt.Sprintf(`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%d,%q]}]}}`, time.Now().Unix(), value)
	}
	answer, code := "", http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		if strings.HasPrefix(r.FormValue("query"), "timestamp(") {
			_, _ = w.Write([]byte(vector(strconv.FormatInt(time.Now().Unix(), 10))))
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer s.Close()
	above := 3.0
	load := migration.StopOn{PromQL: "load", Above: &above}
	for _, c := range []struct {
		stop   migration.StopOn
		answer string
		code   int
		why    string
		fails  bool
	}{
		{load, vector("3"), 200, "", false},
		{load, vector("4"), 200, "load is 4, above 3", false},
		{load, `{"status":"success","data":{"resultType":"vector","result":[]}}`, 200, "", false},
		{load, "", 503, "", true},
		{migration.StopOn{Alerts: []string{"Full"}}, vector("1"), 200, "the alert Full is firing", false},
		{migration.StopOn{Alerts: []string{"Full"}}, vector("0"), 200, "", false},
	} {
		answer, code = c.answer, c.code
		m := &migration.Config{Prometheus: migration.Prometheus{URL: s.URL}}
		m.Reconcile.StopOn = c.stop
		if why, err := mustWait(t.Context(), &Job{Config: m}); why != c.why || (err != nil) != c.fails {
			t.Errorf("%+v: %q, %v", c, why, err)
		}
	}
}
