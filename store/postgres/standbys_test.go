package postgres

import (
	"fmt"
	"testing"
)

func TestSyncNames(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]string{
		"":                              "[] 0",
		"a, b":                          "[a b] 0",
		"*":                             "[] 1",
		"2 (s1, s2)":                    "[s1 s2] 0",
		"FIRST 1 (a,\"B \"\"c\"\"\",a)": `[a B "c"] 0`,
		"ANY 2 (*)":                     "[] 2",
		`"*"`:                           "[*] 0",
		`"unclosed`:                     "[unclosed] 0",
		"first 3 ( a , * )":             "[a] 3",
	} {
		names, least := syncNames(setting)
		if got := fmt.Sprint(names, " ", least); got != want {
			t.Errorf("%s: %s, want %s", setting, got, want)
		}
	}
}
