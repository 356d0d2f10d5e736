package schedule_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/stranglerfig/migrator/internal/schedule"
)

// TestClockChanges: each time that an expression names comes once, also where the clock skips it or shows it
// twice.
func TestClockChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		expr, from, until string
		want              []string
	}{
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z", // set forward on 29 March, 01:00Z
			[]string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"CRON_TZ=Europe/Berlin 0,20,40 2 * * *", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z", []string{"2026-03-29T01:00:00Z"}},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z", // set back on 25 October, 01:00Z
			[]string{"2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"CRON_TZ=Europe/Berlin 0 1-3 * * *", "2026-10-24T23:00:00Z", "2026-10-25T03:00:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"}},
		{"CRON_TZ=Europe/Berlin 0 * * * *", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z", // every hour that passes
			[]string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
		{"CRON_TZ=Europe/Berlin 0 * * * *", "2026-03-29T00:30:00Z", "2026-03-29T02:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"}},
		{"CRON_TZ=America/Sao_Paulo 0 0 * * *", "2018-11-03T00:00:00Z", "2018-11-06T00:00:00Z", // midnight is skipped on 4 November
			[]string{"2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
		{"CRON_TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T00:00:00Z", "2026-04-06T00:00:00Z", // half an hour back on 5 April
			[]string{"2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"}},
		{"CRON_TZ=Europe/Berlin 30 2 25 10 *", "2026-10-25T00:45:00Z", "2027-12-01T00:00:00Z", []string{"2027-10-25T00:30:00Z"}},
		{"30 2 * * *", "2026-03-28T23:00:00Z", "2026-03-30T00:00:00Z", []string{"2026-03-29T02:30:00Z"}},
	} {
		s, err := schedule.Parse(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := time.Parse(time.RFC3339, c.from)
		end, _ := time.Parse(time.RFC3339, c.until)
		var got []string
		for at = s.Next(at); !at.IsZero() && at.Before(end); at = s.Next(at) {
			got = append(got, at.UTC().Format(time.RFC3339))
		}
		if len(got) != len(c.want) {
			t.Errorf("%s from %s: %v, want %v", c.expr, c.from, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s from %s: %v, want %v", c.expr, c.from, got, c.want)
				break
			}
		}
	}
}
