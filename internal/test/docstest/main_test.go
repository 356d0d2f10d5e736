// Package docstest compares the documents with the program: their commands, the JSON that
// they document, their links and words, and the embedding example.
package docstest

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, nil) }
