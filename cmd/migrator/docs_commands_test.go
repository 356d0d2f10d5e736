package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stranglerfig/migrator/internal/test/clitest"
)

// inlineCommand is a command within a sentence.
var inlineCommand = regexp.MustCompile("`(migrator [^`\n]+)`")

// TestMentionedCommandsExist: the commands and flags that documents mention within
// sentences exist.
func TestMentionedCommandsExist(t *testing.T) {
	t.Parallel()
	for path, text := range clitest.Docs(t) {
		for _, m := range inlineCommand.FindAllStringSubmatch(text, -1) {
			if err := understood(clitest.ShellWords(m[1])); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
			}
		}
	}
}

// advised matches a command that the program prints for the user to run.
var advised = regexp.MustCompile("(?:try: |it: |\", \"|try\\(\"|Text: \")(migrator [a-z][^\"`+;,]*)")

// TestAdvisedCommandsExist checks the commands in the sources' hints and messages.
func TestAdvisedCommandsExist(t *testing.T) {
	t.Parallel()
	found := 0
	err := filepath.WalkDir("../..", func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range advised.FindAllStringSubmatch(string(data), -1) {
			found++
			if err := understood(clitest.ShellWords(m[1])); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil || found < 20 {
		t.Errorf("%d pieces of advice: %v", found, err)
	}
}

// understood parses a command line without running it. A command that has only
// subcommands may be mentioned.
func understood(words []string) error {
	cmd, rest, err := newRoot(&cli{}).Find(words[1:])
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		// A flag at the end of a mention may have no value: --reason.
		last := words[len(words)-1]
		if !strings.HasPrefix(last, "--") || cmd.Flag(strings.TrimPrefix(last, "--")) == nil {
			return err
		}
		return nil
	}
	if left := cmd.Flags().Args(); cmd.HasSubCommands() && len(left) > 0 && cmd.Name() != "completion" {
		return fmt.Errorf("%w: %s", errNoCommand, left[0])
	}
	return nil
}

var errNoCommand = errors.New("no such command")

func TestUnderstoodRefusesUnknownCommands(t *testing.T) {
	t.Parallel()
	for line, good := range map[string]bool{
		"migrator phase":                         true,
		"migrator phase rollback --yes":          true,
		"migrator fleet evict INSTANCE --reason": true,
		"migrator phase forward":                 false,
		"migrator frobnicate":                    false,
		"migrator phase advance --force":         false,
		"migrator fleet evict INSTANCE --why":    false,
	} {
		if err := understood(clitest.ShellWords(line)); (err == nil) != good {
			t.Errorf("%s: %v", line, err)
		}
	}
}
