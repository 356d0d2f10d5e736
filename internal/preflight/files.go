package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/notify/secrets"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

// checkSecrets looks at the secrets that webhooks are signed with.
func checkSecrets(hooks []migration.Webhook) (checks []store.Check) {
	for i, h := range hooks {
		keys, err := secrets.Read(h.SecretFile)
		switch {
		case err != nil:
			checks = append(checks, store.Check{
				Name: "secret", Result: store.Refused, Detail: fmt.Sprintf("webhooks[%d].secret_file: %v: no message can be sent", i, err),
				Hint: hint.Hint{Text: secrets.Make + ", with the receiver's copy of it"},
			})
		case slices.ContainsFunc(keys, func(s secrets.Secret) bool { return len(s) < secrets.Least }):
			checks = append(checks, store.Check{
				Name: "secret", Result: store.Warned, Hint: hint.Hint{Text: secrets.Make + ", and at the receiver"},
				Detail: fmt.Sprintf("webhooks[%d].secret_file has a secret of fewer than %d bytes: a signature by it can be forged by trying", i, secrets.Least),
			})
		case len(keys) > 1:
			checks = append(checks, store.Check{
				Name: "secret", Result: store.Warned, Hint: hint.Hint{Text: "remove the former secret once the receiver has the new one"},
				Detail: fmt.Sprintf("webhooks[%d].secret_file has two secrets: messages are signed with both", i),
			})
		}
	}
	if len(hooks) > 0 && checks == nil {
		checks = append(checks, store.Check{Name: "secret", Result: store.Good, Detail: "each webhook has a secret that can't be guessed"})
	}
	return checks
}

// checkFiles warns of files with secrets that every user of the machine may read.
func (p *Preflight) checkFiles() []store.Check {
	var exposed []string
	for _, file := range p.SecretFiles {
		if infile.Exposed(file) {
			exposed = append(exposed, file)
		}
	}
	switch {
	case len(p.SecretFiles) == 0:
		return nil
	case exposed != nil:
		return []store.Check{{
			Name: "files", Result: store.Warned, Hint: hint.Hint{Text: "chmod o-r " + strings.Join(exposed, " ")},
			Detail: fmt.Sprintf("every user of this machine may read %s: %s", humanize.Counted(len(exposed), "file")+" with secrets", strings.Join(exposed, ", ")),
		}}
	}
	return []store.Check{{Name: "files", Result: store.Good, Detail: "not every user of this machine may read the files with secrets"}}
}
