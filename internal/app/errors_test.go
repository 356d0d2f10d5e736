package app

import (
	"errors"
	"testing"

	"github.com/stranglerfig/migrator/internal/hint"
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
	if !errors.As(err, &drift) || err.Error() != "products.yaml differs from what was applied ("+m.Hash()[:12]+", applied abc)" {
		t.Error(err)
	}
	if h, _ := hint.Of(err); h.Do != hint.Apply {
		t.Errorf("hint %v", h)
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
	show := hint.Hint{Do: hint.DrillShow, Of: []string{"7"}}
	for _, err := range []error{refuseHint(show, "refused: %w", cause), notYetHint(show, "not yet: %w", cause)} {
		if h, _ := hint.Of(err); h.Do != show.Do || !errors.Is(err, cause) {
			t.Errorf("%v: hint %v", err, h)
		}
	}
}
