package runbook

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/shell"
	"mvdan.cc/sh/v3/syntax"
)

func errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }

func dialect(language string) syntax.LangVariant {
	if language == "bash" {
		return syntax.LangBash
	}
	return syntax.LangPOSIX
}

// shellSyntax returns a script's syntax error and its line, from 1.
func shellSyntax(s *Step) (line int, err error) {
	_, err = syntax.NewParser(syntax.Variant(dialect(s.Language))).Parse(strings.NewReader(s.Body), "")
	var at syntax.ParseError
	var other syntax.LangError
	switch {
	case errors.As(err, &at):
		return int(at.Pos.Line()), errors.New(at.Text)
	case errors.As(err, &other):
		return int(other.Pos.Line()), fmt.Errorf("%s is not for %s; begin the block with bash", other.Feature, s.Language)
	}
	return 0, err
}

// shellWords splits a command line as a shell does. It refuses variables: their values would
// be visible in a list of processes.
func shellWords(line string) ([]string, error) {
	if strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#") {
		return nil, nil
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(line), "")
	if err != nil {
		return nil, fmt.Errorf("%q is no command line: %w", line, err)
	}
	if len(file.Stmts) != 1 || len(file.Stmts[0].Redirs) > 0 || file.Stmts[0].Background || file.Stmts[0].Negated {
		return nil, fmt.Errorf("%q: want one command on a line, without redirections; write sh for what takes a shell", line)
	}
	call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 {
		return nil, fmt.Errorf("%q: want one command on a line; write sh for what takes a shell", line)
	}
	literal := true
	syntax.Walk(call, func(n syntax.Node) bool {
		switch n.(type) {
		case *syntax.ParamExp, *syntax.CmdSubst, *syntax.ArithmExp, *syntax.ProcSubst:
			literal = false
		}
		return true
	})
	if !literal {
		return nil, fmt.Errorf("%q: variables are for blocks in sh", line)
	}
	return shell.Fields(line, func(string) string { return "" })
}

// programs returns the commands that a script starts, as far as they are literal. It leaves
// out shell builtins and functions that the script defines.
func programs(s *Step) []string {
	file, err := syntax.NewParser(syntax.Variant(dialect(s.Language))).Parse(strings.NewReader(s.Body), "")
	if err != nil {
		return nil
	}
	own := map[string]bool{}
	var found []string
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.FuncDecl:
			own[n.Name.Value] = true
		case *syntax.CallExpr:
			if len(n.Args) == 0 {
				return true
			}
			if name, err := expand.Literal(nil, n.Args[0]); err == nil && n.Args[0].Lit() != "" && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		return true
	})
	return slices.DeleteFunc(found, func(name string) bool { return own[name] || builtin(name) })
}

func builtin(name string) bool {
	return slices.Contains([]string{
		":", ".", "[", "alias", "bg", "break", "case", "cd", "command", "continue", "declare", "echo", "eval", "exec", "exit", "export",
		"false", "fg", "getopts", "hash", "jobs", "kill", "let", "local", "mapfile", "printf", "pwd", "read", "readonly", "return",
		"set", "shift", "shopt", "source", "test", "times", "trap", "true", "type", "ulimit", "umask", "unalias", "unset", "wait",
	}, name)
}

// Words quotes words for a shell and joins them.
func Words(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		q, err := syntax.Quote(w, syntax.LangPOSIX)
		if err != nil {
			q = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		quoted[i] = q
	}
	return strings.Join(quoted, " ")
}
