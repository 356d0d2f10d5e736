package record_test

import (
	"testing"

	"github.com/stranglerfig/migrator/record"
)

func TestSplitsPassword(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"postgres://u:p@h/db":                          false,
		"postgres://u:a@b@h/db":                        false,
		"postgres://u:a%23b@h/db":                      false,
		"postgres://h/db?application_name=a@b":         false,
		"postgres:///db?host=/run/postgresql&user=a@b": false,
		"redis://h:6379/0?username=a&password=b@c":     false,
		"unix:///run/redis.sock?db=1":                  false,
		"host=h password=a#b@c":                        false,
		"postgres://u:a#b@h/db":                        true,
		"postgres://u:1#b@h/db":                        true,
		"postgres://u:1/b@h/db":                        true,
		"postgres://u:1?b@h/db":                        true,
		"postgres://u:1?b=c@h/db":                      false, // a parameter as any
		"redis://:1/2@h:6379/0":                        true,
		"redis://h/0#x":                                true,
	} {
		if got := record.SplitsPassword(url); got != want {
			t.Errorf("%s: %t", url, got)
		}
	}
}
