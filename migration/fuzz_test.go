package migration_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/migration"
)

// FuzzParse: no text makes Parse panic or return an error without a position, no error
// contains a variable's value, and Parse reads back what Show writes.
func FuzzParse(f *testing.F) {
	examples, _ := filepath.Glob("../configs/*.yaml")
	for _, file := range examples {
		if data, err := os.ReadFile(file); err == nil {
			f.Add(string(data))
		}
	}
	for _, s := range []string{
		least, least + "exclude: [&a x, *a]", "a: &a [*a]", "${S}: ${S}", "name: ${S}", "{", "? ", "phases: {cutover: {steps: [0.1e1, NaN]}}",
		strings.Replace(least, "products", "'${S}'", 2), "- - - -", "!!binary aa", "name: !!int x", "compare: [{path: /a~1, precision: 1ns}]",
	} {
		f.Add(s)
	}
	const secret = "s3cr3t-value"
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "url_file") {
			t.Skip("files are for another test")
		}
		m, err := openstore.Parse("m.yaml", []byte(text), env("S", secret, "LEGACY_URL", "postgres://db"))
		if err != nil {
			var all migration.Errors
			if !errors.As(err, &all) || len(all) == 0 || m != nil {
				t.Fatalf("%T: %v", err, err)
			}
			if strings.Contains(err.Error(), secret) && !strings.Contains(text, secret) {
				t.Errorf("the error contains a secret: %v", err)
			}
			return
		}
		shown, err := migration.Show(m)
		if err != nil {
			t.Fatal(err)
		}
		m.Legacy.URL, m.Target.URL = "", ""
		hash := m.Hash()
		back, err := openstore.Parse("m.yaml", withURLs(shown), nil)
		if err != nil {
			t.Fatalf("Parse refuses what Show wrote: %v\n%s", err, shown)
		}
		back.Legacy.URL, back.Target.URL = "", ""
		if !reflect.DeepEqual(back, m) || back.Hash() != hash {
			t.Errorf("%+v came back as %+v from\n%s", m, back, shown)
		}
	})
}

// withURLs replaces hidden URLs by valid ones.
func withURLs(shown []byte) []byte {
	lines := strings.Split(string(shown), "\n")
	side, target := "", strings.Contains(string(shown), "\n  store: redis")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "legacy:"), strings.HasPrefix(line, "target:"):
			side = line
		case strings.HasPrefix(line, "  url:") && side == "legacy:":
			lines[i] = "  url: postgres://legacy"
		case strings.HasPrefix(line, "  url:") && target:
			lines[i] = "  url: redis://target"
		case strings.HasPrefix(line, "  url:"):
			lines[i] = "  url: postgres://target"
		}
	}
	return []byte(strings.Join(lines, "\n"))
}
