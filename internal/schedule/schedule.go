// Package schedule reads the cron expressions of migration files.
package schedule

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Parse reads a cron expression of five fields, or @daily and the like, in UTC
// unless it begins with CRON_TZ=Europe/Berlin or another zone.
func Parse(text string) (cron.Schedule, error) {
	zoned := text
	if !strings.HasPrefix(text, "TZ=") && !strings.HasPrefix(text, "CRON_TZ=") {
		zoned = "CRON_TZ=UTC " + text
	} else if _, fields, _ := strings.Cut(text, " "); strings.TrimSpace(fields) == "" {
		return nil, fmt.Errorf("%q: there is a zone and nothing behind it", text) // the parser panics
	}
	s, err := cron.ParseStandard(zoned)
	if err != nil {
		return nil, fmt.Errorf("%q: %w; want five fields such as 0 2 * * *", text, err)
	}
	// As of a fixed moment: what is valid must not depend on when it is read.
	if s.Next(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes", text)
	}
	if spec, ok := s.(*cron.SpecSchedule); ok && spec.Location != time.UTC && spec.Hour&everyHour == 0 {
		zone := spec.Location
		spec.Location = time.UTC
		return wallClock{spec, zone}, nil
	}
	return s, nil
}

// everyHour is set in the hours of an expression that has * for them.
const everyHour = 1 << 63

// wallClock comes once for each time of the zone's clock that the expression names, also where the clock
// changes: a time that is skipped comes when the clock has jumped over it, and of one that is twice the first. An
// expression for every hour goes by the time that passes instead.
type wallClock struct {
	spec *cron.SpecSchedule // of the clock's times, as if they were UTC
	zone *time.Location
}

// Next implements cron.Schedule.
func (w wallClock) Next(after time.Time) time.Time {
	clock := after.In(w.zone)
	// From earlier on: a clock that was set back shows times that have come already.
	at := time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, time.UTC).Add(-longestChange)
	for {
		if at = w.spec.Next(at); at.IsZero() {
			return at
		}
		if comes := w.instant(at); comes.After(after) {
			return comes.In(after.Location())
		}
	}
}

// longestChange is more than clocks are set back or forward by.
const longestChange = 25 * time.Hour

// instant returns when the zone's clock shows a time first, or jumps over it.
func (w wallClock) instant(shown time.Time) time.Time {
	const day = 24 * time.Hour
	_, before := shown.Add(-day).In(w.zone).Zone()
	_, later := shown.Add(day).In(w.zone).Zone()
	a, b := shown.Add(-time.Duration(before)*time.Second), shown.Add(-time.Duration(later)*time.Second)
	if _, offset := a.In(w.zone).Zone(); offset == before {
		return a // of two it is the first: the clock is set back after it
	}
	if _, offset := b.In(w.zone).Zone(); offset == later {
		return b
	}
	jump, _ := a.In(w.zone).ZoneBounds()
	return jump
}

// Check reports why an expression is none.
func Check(text string) error {
	_, err := Parse(text)
	return err
}
