package preflight

import (
	"fmt"
	"strings"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/humanize"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/store"
)

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
