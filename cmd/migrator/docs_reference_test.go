package main

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/metrics"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/phases"
	"github.com/stranglerfig/migrator/record"
)

// exitCodes are the exit codes with a meaning of their own for a command.
// TestJSONContract observes each of them.
func exitCodes() map[string]map[int]string {
	const refused = "a check refuses the migration"
	const unsettled = "the fleet has not acknowledged a move within `--settle`; the moves printed are made"
	const stopped = unsettled + ". Or, from `retain`: legacy refuses rows, the target has lost records, or legacy had lost its fence: the message says where it stopped"
	return map[string]map[int]string{
		"migrator plan":            {exitUsage: refused},
		"migrator apply":           {exitUsage: refused},
		"migrator doctor":          {exitUsage: refused},
		"migrator phase advance":   {exitNotYet: "a gate is closed, or the fleet has not acknowledged the step within `--settle`"},
		"migrator gate list":       {exitNotYet: "a gate before the next step is closed"},
		"migrator phase rollback":  {exitNotYet: stopped},
		"migrator rollback":        {exitNotYet: stopped},
		"migrator backfill run":    {exitNotYet: "the migration is not ready for it, or another backfill is running"},
		"migrator runbook approve": {exitNotYet: "no step of the run waits for an approval"},
		"migrator runbook resume":  {exitNotYet: "the run waits for a person, or another process executes it"},
		"migrator runbook run":     {exitNotYet: "the run waits for a person, or one of this runbook has not ended"},
		"migrator runbook verify":  {exitNotYet: "a check failed"},
		"migrator reconcile run":   {exitNotYet: "the stores differ (also if all was repaired), or another run is in progress"},
		"migrator drill rollback":  {exitNotYet: "the drill failed, or another one is in progress"},
		"migrator drill export":    {exitNotYet: "the drill failed"},
		"migrator drill import":    {exitNotYet: "the drill rehearsed another configuration than the applied one"},
	}
}

// commandReference describes every command of the tree.
func commandReference() string {
	var b strings.Builder
	root := newRoot(&cli{})
	fmt.Fprintf(&b, "## migrator\n\n```text\n%s\n```\n\n", strings.TrimSpace(root.Long))
	b.WriteString("Flags of every command:\n\n")
	flagTable(&b, root.PersistentFlags())
	for _, cmd := range root.Commands() {
		commandSection(&b, cmd, 2)
	}
	return b.String()
}

func commandSection(b *strings.Builder, cmd *cobra.Command, level int) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	fmt.Fprintf(b, "\n%s %s\n\n%s.\n", strings.Repeat("#", level), cmd.CommandPath(), strings.TrimSuffix(cmd.Short, "."))
	builtin := cmd.Name() == "completion" || cmd.HasParent() && cmd.Parent().Name() == "completion"
	if cmd.Long != "" && !builtin {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	if cmd.Runnable() && !cmd.HasSubCommands() {
		fmt.Fprintf(b, "\n```text\n%s\n```\n", cmd.UseLine())
	}
	if !builtin {
		b.WriteString("\n")
		flagTable(b, cmd.LocalNonPersistentFlags())
	}
	codes := exitCodes()[cmd.CommandPath()]
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		fmt.Fprintf(b, "\nExits with %d if %s.\n", code, codes[code])
	}
	for _, sub := range cmd.Commands() {
		commandSection(b, sub, level+1)
	}
}

func flagTable(b *strings.Builder, flags *pflag.FlagSet) {
	rows := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if rows++; rows == 1 {
			b.WriteString("| flag | default | meaning |\n|---|---|---|\n")
		}
		word, meaning := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + word)
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		def := "`" + f.DefValue + "`"
		if f.DefValue == "" || f.DefValue == "[]" || f.DefValue == "false" {
			def = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, def, cell(meaning))
	})
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// settingsReference describes the tool's own settings.
func settingsReference() string {
	var b strings.Builder
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	addSettingsFlags(flags)
	addServeFlags(flags)
	b.WriteString("| in migrator.yaml | variable | flag | default | meaning |\n|---|---|---|---|---|\n")
	t := reflect.TypeFor[settings]()
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("mapstructure")
		flag, def, meaning := "", "", map[string]string{
			"state_url":          "the state database's URL; no flag, since command lines are public",
			"alerts_token":       "bearer token that lets an Alertmanager send alerts to serve; no flag, since command lines are public",
			"alerts_token_file":  "file with that token; without either, serve accepts no alerts",
			"api_rate":           "requests of one token to the HTTP API in a second (2000)",
			"flags_origins":      "origins of the pages that browsers may ask for flags from, such as https://shop.example, separated by commas",
			"flags_rate":         "requests for flags that one token may make in a second (200)",
			"hosts":              "names by which requests to serve may come, separated by commas (default: on loopback this machine's, elsewhere any)",
			"tls_cert_file":      "certificate that serve listens with, in PEM; read again when it changes",
			"tls_key_file":       "its key",
			"tls_client_ca_file": "authority whose certificates clients of serve must have (mutual TLS)",
		}[name]
		if t.Field(i).Type.Kind() != reflect.Bool && meaning == "" && flags.Lookup(strings.ReplaceAll(name, "_", "-")) == nil {
			panic("the setting " + name + " has no meaning here")
		}
		if f := flags.Lookup(strings.ReplaceAll(name, "_", "-")); f != nil {
			flag, meaning = "`--"+f.Name+"`", f.Usage
			if f.DefValue != "" && f.DefValue != "false" {
				def = "`" + f.DefValue + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | `MIGRATOR_%s` | %s | %s | %s |\n", name, strings.ToUpper(name), flag, def, cell(meaning))
	}
	return b.String()
}

// metricsReference describes what a Prometheus server gets.
func metricsReference(all []metrics.Info) string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning | absent |\n|---|---|---|---|---|\n")
	for _, m := range all {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Type, labels, cell(m.Help), m.Absent)
	}
	return b.String()
}

// listLink is a link to a list's own section, whose name includes its parent's.
var listLink = regexp.MustCompile(`list, see \[([a-z_]+)\]\(#[a-z_]+\)`)

// keyReference describes the migration file's keys, by its Go types, as the JSON Schema
// does.
func keyReference() string {
	v := migration.Outline(openstore.Kinds()...)
	var b strings.Builder
	b.WriteString("### At the top\n\n")
	keyTable(&b, func() {
		for i := range v.NumField() {
			keyRow(&b, "", "", v.Type().Field(i), v.Field(i))
		}
	})
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, section := yamlKey(f), v.Field(i)
		switch {
		case section.Kind() == reflect.Struct:
			fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n", name, f.Tag.Get("jsonschema_description"))
		case section.Kind() == reflect.Slice && section.Type().Elem().Kind() == reflect.Struct:
			fmt.Fprintf(&b, "\n### %s\n\n%s. A list; each entry has:\n\n", name, f.Tag.Get("jsonschema_description"))
			section = reflect.Zero(section.Type().Elem())
		default:
			continue
		}
		var rows strings.Builder
		keyTable(&rows, func() { keyRows(&rows, name+".", "", section) })
		b.WriteString(listLink.ReplaceAllString(rows.String(), "list, see ["+name+".$1](#"+name+"$1)"))
		for _, f := range migration.Fields(section.Type()) {
			if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
				fmt.Fprintf(&b, "\n### %s.%s\n\n%s. A list; each entry has:\n\n", name, yamlKey(f), f.Tag.Get("jsonschema_description"))
				keyTable(&b, func() { keyRows(&b, name+"."+yamlKey(f)+".", "", reflect.Zero(f.Type.Elem())) })
			}
		}
	}
	return b.String()
}

func keyTable(b *strings.Builder, rows func()) {
	b.WriteString("| key | type | default | change | meaning |\n|---|---|---|---|---|\n")
	rows()
}

// keyRows writes the rows of a section, whose own path ends with a dot.
func keyRows(b *strings.Builder, section, path string, v reflect.Value) {
	for _, f := range migration.Fields(v.Type()) {
		field := v.FieldByIndex(f.Index)
		if field.Kind() == reflect.Struct {
			keyRows(b, section, path+yamlKey(f)+".", field)
			continue
		}
		keyRow(b, section, path, f, field)
	}
}

func keyRow(b *strings.Builder, section, path string, f reflect.StructField, v reflect.Value) {
	tag, def := f.Tag.Get("jsonschema"), ""
	switch {
	case strings.Contains(tag, "required"):
		def = "required"
	case !v.IsZero() && v.Kind() != reflect.Struct:
		def = "`" + keyText(v) + "`"
	}
	change := "`" + string(migration.RuleOf(section+path+yamlKey(f))) + "`"
	if v.Kind() == reflect.Struct || v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
		change = "" // its keys have their own
	}
	fmt.Fprintf(b, "| `%s%s` | %s | %s | %s | %s |\n", path, yamlKey(f), keyType(f.Type, tag, yamlKey(f)), def, change, cell(f.Tag.Get("jsonschema_description")))
}

func yamlKey(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

// keyText writes a default as YAML has it.
func keyText(v reflect.Value) string {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice {
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = keyText(v.Index(i))
		}
		return "[" + strings.Join(texts, ", ") + "]"
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, _ := m.MarshalText()
		return string(text)
	}
	return fmt.Sprint(v.Interface())
}

func keyType(t reflect.Type, tag, name string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var words []string
	for _, part := range strings.Split(tag, ",") {
		if word, ok := strings.CutPrefix(part, "enum="); ok {
			words = append(words, "`"+word+"`")
		}
	}
	switch {
	case len(words) > 0:
		return strings.Join(words, ", ")
	case t == reflect.TypeFor[phases.Duration](), t == reflect.TypeFor[record.Precision]():
		return "duration"
	case t == reflect.TypeFor[phases.Percent](), t == reflect.TypeFor[phases.Shadow]():
		return "percentage"
	case t == reflect.TypeFor[phases.Phase]():
		return "phase"
	case t == reflect.TypeFor[phases.Share]():
		return "share"
	case t == reflect.TypeFor[time.Duration]():
		return "duration"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "list, see [" + name + "](#" + name + ")"
	case t.Kind() == reflect.Slice:
		return "list of " + keyType(t.Elem(), "", name)
	case t.Kind() == reflect.Struct:
		return "see [" + name + "](#" + name + ")"
	case t.Kind() == reflect.Map:
		return "mapping of texts"
	case t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.Int:
		return "integer"
	case t.Kind() == reflect.Bool:
		return "boolean"
	default:
		return "text"
	}
}
