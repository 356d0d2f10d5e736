package redis

import (
	"cmp"
	"embed"
	"regexp"
	"slices"
	"strings"
)

//go:embed scripts/*.lua
var scripts embed.FS

// sentCommands are those that Go code sends; scripts call others. INFO, CONFIG and DBSIZE are for
// checks and for the search for lost data, TIME for the deadline of writes.
var sentCommands = []string{"config|get", "dbsize", "eval", "evalsha", "get", "hmget", "info", "scan", "time", "unlink"}

// clusterCommands are sent in a cluster alone.
var clusterCommands = []string{"asking", "cluster|slots", "command"}

var scriptCommand = regexp.MustCompile(`redis\.p?call\('([A-Z]+)'`)

// commandNames are all commands that a target with its settings sends or calls.
func (t *Target) commandNames() []string {
	names := slices.Clone(sentCommands)
	files, _ := scripts.ReadDir("scripts")
	for _, f := range files {
		source, _ := scripts.ReadFile("scripts/" + f.Name())
		for _, m := range scriptCommand.FindAllStringSubmatch(string(source), -1) {
			names = append(names, strings.ToLower(m[1]))
		}
	}
	if t.cluster != nil {
		names = append(names, clusterCommands...)
	}
	if t.expires < 0 { // a server before 7.0 has no such command, and refuses its name
		names = slices.DeleteFunc(names, func(n string) bool { return n == "pexpiretime" })
	}
	if t.database > 0 {
		names = append(names, "select")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// ACL is the command that gives the user of target.url what migrator needs, and nothing more. It
// adds to what the user may do: password and state stay.
func (t *Target) ACL() string {
	words := []string{"ACL", "SETUSER", cmp.Or(t.user, "default")}
	for _, pattern := range []string{t.template.globOfKeys(), escapeGlob(sidecarPrefix) + "*"} {
		words = append(words, "~"+pattern)
	}
	for _, name := range t.commandNames() {
		words = append(words, "+"+name)
	}
	for i, w := range words {
		if strings.ContainsAny(w, " \t'\"\\$`*?[]{}|<>~;&()#!") { // redis-cli is called by a shell
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return "redis-cli " + strings.Join(words, " ")
}

// globOfKeys is the pattern of all Redis keys that the template makes.
func (t *Template) globOfKeys() string {
	var b strings.Builder
	for n, literal := range t.literals {
		b.WriteString(escapeGlob(literal))
		if n < len(t.columns) {
			b.WriteByte('*')
		}
	}
	return b.String()
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(s)
}
