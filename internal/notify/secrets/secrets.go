// Package secrets reads the files with the secrets of webhooks.
package secrets

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
)

// Secret is a key of signatures.
type Secret []byte

// Least is how many bytes a secret has at least: of fewer it can be found by trying.
const Least = 16

// Make is a command that makes a file with a secret.
const Make = `printf 'whsec_%s\n' "$(openssl rand -base64 32)" > FILE`

// Parse reads the text of a secret file: one secret, or two while it is being changed, a line each. A secret is
// whsec_ and the key in base64, as receivers' libraries take it; any other text is the key itself. The error repeats
// nothing of the text.
func Parse(text string) (all []Secret, err error) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key := []byte(line)
		if encoded, ok := strings.CutPrefix(line, "whsec_"); ok {
			if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
				return nil, hint.Errorf(hint.Hint{Text: Make}, "secret %d begins with whsec_, and what follows is not base64", len(all)+1)
			}
		}
		all = append(all, key)
	}
	if len(all) == 0 || len(all) > 2 {
		return nil, hint.Errorf(hint.Hint{Text: "a line with the secret, and a second one while the receiver changes"}, "there are %d secrets: want one or two", len(all))
	}
	return all, nil
}

// Read reads a secret file: see Parse.
func Read(path string) ([]Secret, error) {
	text, err := infile.Text(path)
	if err != nil {
		return nil, err
	}
	all, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}
