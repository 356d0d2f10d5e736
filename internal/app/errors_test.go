package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/migration"
)

func TestCheckHashRefusesUnappliedFile(t *testing.T) {
	t.Parallel()
	m := &migration.Config{Name: "products"}
	if err := checkHash(m, "products.yaml", m.Hash()); err != nil {
		t.Error(err)
	}
	err := checkHash(m, "products.yaml", "abc")
	var drift *DriftError
	if !errors.As(err, &drift) || !strings.HasPrefix(err.Error(), "products.yaml differs from what was applied ("+m.Hash()[:12]+", applied abc); try: ") {
		t.Error(err)
	}
}

func TestErrorsKeepTheirCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	if err := refuse("refused: %w", cause); !errors.Is(err, cause) || !errors.As(err, new(*InputError)) {
		t.Error(err)
	}
	if err := notYet("not yet: %w", cause); !errors.Is(err, cause) || !errors.As(err, new(*NotYetError)) {
		t.Error(err)
	}
}
