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
	return s, nil
}

// Check reports why an expression is none.
func Check(text string) error {
	_, err := Parse(text)
	return err
}
