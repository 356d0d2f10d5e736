// Package docstest holds the documents against the program: the commands that they tell to
// type, the JSON that they promise, their links and words, and the embedding example.
package docstest

import (
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

func TestMain(m *testing.M) { clitest.Main(m, nil) }
