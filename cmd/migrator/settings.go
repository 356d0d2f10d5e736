package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/stranglerfig/migrator/internal/daemon"
	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/oneline"
	"github.com/stranglerfig/migrator/internal/server"
)

// settings are the tool's own: where its state is, how it prints. They come from
// flags, MIGRATOR_ variables and migrator.yaml, in that order. What a migration
// moves is in a file of its own (package migration).
type settings struct {
	File         string `mapstructure:"file"`
	StateURL     string `mapstructure:"state_url"`
	StateURLFile string `mapstructure:"state_url_file"`
	Output       string `mapstructure:"output"`
	LogLevel     string `mapstructure:"log_level"`
	LogFormat    string `mapstructure:"log_format"`

	Listen         string `mapstructure:"listen"` // of serve alone, as is the next
	ListenAnywhere bool   `mapstructure:"listen_anywhere"`

	AlertsToken     string `mapstructure:"alerts_token"`
	AlertsTokenFile string `mapstructure:"alerts_token_file"`

	Page bool `mapstructure:"page"`

	Flags        bool   `mapstructure:"flags"`
	FlagsOrigins string `mapstructure:"flags_origins"`
	FlagsRate    int    `mapstructure:"flags_rate"`

	API     bool `mapstructure:"api"`
	APIRate int  `mapstructure:"api_rate"`

	Hosts           string `mapstructure:"hosts"`
	TLSCertFile     string `mapstructure:"tls_cert_file"`
	TLSKeyFile      string `mapstructure:"tls_key_file"`
	TLSClientCAFile string `mapstructure:"tls_client_ca_file"`
}

const (
	outputText = "text"
	outputJSON = "json"
)

// addSettingsFlags declares the flags that every command has. There is no flag for a URL:
// it may contain a password, and command lines are public (ps).
func addSettingsFlags(f *pflag.FlagSet) {
	f.StringP("file", "f", "", "migration file, - for stdin (default migration.yaml, if it exists)")
	f.StringP("output", "o", outputText, "text or json")
	f.String("settings", "", "settings file (default: the first that exists of ./migrator.yaml, ~/.config/migrator/migrator.yaml and /etc/migrator/migrator.yaml)")
	f.String("state-url-file", "", "file with the state database's URL (or set MIGRATOR_STATE_URL)")
	f.String("log-level", "warn", "debug, info, warn or error (serve: info)")
	f.String("log-format", "text", "text or json")
}

// defaultLogLevel annotates a command whose log level differs from the others' unless it
// is set.
const defaultLogLevel = "log-level"

// configure reads the settings before any command runs.
func (c *cli) configure(cmd *cobra.Command) error {
	c.command = cmd.CommandPath()
	v := viper.NewWithOptions(viper.ExperimentalBindStruct())
	v.SetEnvPrefix("MIGRATOR")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	v.SetDefault("listen", defaultListen)
	for _, name := range []string{"file", "output", "state-url-file", "log-level", "log-format", "listen", "listen-anywhere", "page", "flags", "api"} {
		flag := cmd.Flags().Lookup(name)
		if flag == nil {
			continue // of another command
		}
		if err := v.BindPFlag(strings.ReplaceAll(name, "-", "_"), flag); err != nil {
			return err
		}
	}
	if flag := cmd.Flags().Lookup("file"); flag.Changed {
		c.given.file = flag.Value.String()
	}
	flag, _ := cmd.Flags().GetString("settings")
	path, data, err := settingsFile(flag)
	if err != nil {
		return err
	}
	lines, err := checkSettings(path, data)
	if err != nil {
		return err
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return usageTry(try("migrator config settings"), "settings %s: %w", path, err)
	}
	from := func(name string) string { return origin(cmd, path, lines, name) }
	for _, name := range []string{"listen_anywhere", "page", "flags", "api"} {
		if text := v.GetString(name); text != "" {
			if _, err := strconv.ParseBool(text); err != nil {
				return usagef("%s: %q: want true or false", from(name), text)
			}
		}
	}
	for _, name := range []string{"flags_rate", "api_rate"} {
		if text := v.GetString(name); text != "" {
			if n, err := strconv.Atoi(text); err != nil || n < 1 || n > maxRate {
				return usagef("%s: %q: want a number from 1 to %d", from(name), text, maxRate)
			}
		}
	}
	if err := v.Unmarshal(&c.settings); err != nil {
		return usageTry(try("migrator config settings"), "settings: %s", firstLine(err))
	}
	c.settingsFrom = path
	if path == settingsHere {
		if v.InConfig("listen_anywhere") && c.settings.ListenAnywhere {
			return usageTry(try("--listen-anywhere, MIGRATOR_LISTEN_ANYWHERE=true, or a file that --settings names"),
				"settings %s: listen_anywhere is not taken from the folder that a command happens to run in", path)
		}
		if isTerminal(c.err) && c.settings.Output != outputJSON {
			c.note("%s", c.paint(c.err, dim, "settings from ./"+settingsHere))
		}
	}
	if level := cmd.Annotations[defaultLogLevel]; level != "" && !v.IsSet("log_level") {
		c.settings.LogLevel = level
	}
	return c.check(from)
}

// settingsHere is the settings file of the present folder.
const settingsHere = "migrator.yaml"

// settingsFile reads the file that the flag or MIGRATOR_SETTINGS names, or the first that exists of
// the present folder's, the user's and the machine's. path is "" if there is none.
func settingsFile(flag string) (path string, data []byte, err error) {
	named := cmp.Or(flag, os.Getenv("MIGRATOR_SETTINGS"))
	places := []string{named}
	if named == "" {
		places = []string{settingsHere}
		if home, err := os.UserConfigDir(); err == nil {
			places = append(places, filepath.Join(home, "migrator", settingsHere))
		}
		places = append(places, "/etc/migrator/"+settingsHere)
	}
	for _, path := range places {
		data, err := infile.Read(path, infile.Small)
		if err == nil {
			return path, data, nil
		}
		if named != "" || !errors.Is(err, fs.ErrNotExist) {
			return path, nil, usageTry(try("migrator config settings"), "settings: %w", err)
		}
	}
	return "", nil, nil
}

func firstLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "* "))
}

// checkSettings checks what a settings file says, and returns the line of each setting.
func checkSettings(path string, data []byte) (lines map[string]int, err error) {
	bad := func(line int, format string, args ...any) error {
		at := path
		if line > 0 {
			at = fmt.Sprintf("%s:%d", path, line)
		}
		return usageTry(try("migrator config settings"), "settings %s: %s", at, fmt.Sprintf(format, args...))
	}
	var doc yaml.Node
	in := yaml.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, bad(0, "invalid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := in.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, bad(0, "more than one document: want one")
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, bad(root.Line, "want lines of the form key: value")
	}
	var known []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[settings]()) {
		known = append(known, f.Tag.Get("mapstructure"))
	}
	lines = map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch first, again := lines[key.Value]; {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			return nil, bad(key.Line, "there is no setting %s; there are %s", oneline.Of(key.Value), strings.Join(known, ", "))
		case again:
			return nil, bad(key.Line, "%s is given twice, first on line %d: leave one out", key.Value, first)
		case value.Kind != yaml.ScalarNode:
			return nil, bad(value.Line, "%s: want a single value", key.Value)
		}
		lines[key.Value] = key.Line
	}
	return lines, nil
}

// origin says where a setting comes from.
func origin(cmd *cobra.Command, path string, lines map[string]int, name string) string {
	variable := "MIGRATOR_" + strings.ToUpper(name)
	flag := strings.ReplaceAll(name, "_", "-")
	if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
		return "--" + flag
	}
	if os.Getenv(variable) != "" {
		return variable
	}
	if line := lines[name]; line > 0 {
		return fmt.Sprintf("settings %s:%d: %s", path, line, name)
	}
	return name
}

// check refuses values that a setting can't have; from says where one comes from.
func (c *cli) check(from func(name string) string) error {
	s := &c.settings
	if s.Output != outputText && s.Output != outputJSON {
		bad := s.Output
		s.Output = outputText
		return usagef("%s: output %q: want text or json", from("output"), bad)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return usagef("%s: log level %q: want debug, info, warn or error", from("log_level"), s.LogLevel)
	}
	switch s.LogFormat {
	case "json":
		c.log = slog.New(slog.NewJSONHandler(c.err, &slog.HandlerOptions{Level: level, ReplaceAttr: c.logHint}))
	case "text":
		c.log = slog.New(tint.NewTextHandler(c.err, &tint.Options{Level: level, NoColor: !c.colour(c.err), ReplaceAttr: c.logHint}))
	default:
		return usagef("%s: log format %q: want text or json", from("log_format"), s.LogFormat)
	}
	return nil
}

// stateURL is the URL of the state database.
func (s *settings) stateURL() (string, error) {
	switch {
	case s.StateURL != "" && s.StateURLFile != "":
		return "", usagef("both MIGRATOR_STATE_URL and a state URL file are given: want one")
	case s.StateURL != "":
		return s.StateURL, nil
	case s.StateURLFile != "":
		text, err := infile.Text(s.StateURLFile)
		if err != nil {
			return "", usagef("state URL file: %w", err)
		}
		return text, nil
	default:
		return "", usageTry(hint.Hint{Do: hint.SetStateURL}, "no state database is configured")
	}
}

// migrationFile is the path of the migration file; "" if none is named and there is no
// migration.yaml.
func (s *settings) migrationFile() string {
	if s.File != "" {
		return s.File
	}
	if _, err := os.Stat("migration.yaml"); err == nil {
		return "migration.yaml"
	}
	return ""
}

const (
	minAlertsToken = 16
	maxRate        = 100_000 // requests of one token in a second
)

// flags are how flags are served; nil: they are not.
func (s *settings) flags() (*daemon.FlagsOptions, error) {
	origins := listed(s.FlagsOrigins)
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || o != u.Scheme+"://"+u.Host {
			return nil, usageTry(try("https://shop.example"), "flags_origins: %q: want the scheme and the host of a page, without a path", oneline.Of(o))
		}
	}
	switch {
	case s.Flags && s.ListenAnywhere && s.TLSCertFile == "":
		return nil, usageTry(try("tls_cert_file and tls_key_file, or a proxy on this machine that ends TLS and --listen on loopback"),
			"flags off loopback need TLS: every request has a token")
	case s.Flags:
		return &daemon.FlagsOptions{Origins: origins, Rate: s.FlagsRate}, nil
	case len(origins) > 0 || s.FlagsRate != 0:
		return nil, usageTry(try("flags: true"), "flags_origins and flags_rate are of flags, which are not served")
	}
	return nil, nil
}

// api is how the HTTP API is served; nil: it is not.
func (c *cli) api() (*daemon.APIOptions, error) {
	s := &c.settings
	switch {
	case s.API && s.ListenAnywhere && s.TLSCertFile == "":
		return nil, usageTry(try("tls_cert_file and tls_key_file, or a proxy on this machine that ends TLS and --listen on loopback"),
			"the HTTP API off loopback needs TLS: every request has a token")
	case s.API:
		return &daemon.APIOptions{Rate: s.APIRate, Try: given{}.text}, nil
	case s.APIRate != 0:
		return nil, usageTry(try("api: true"), "api_rate is of the HTTP API, which is not served")
	}
	return nil, nil
}

// page is how the page is served; nil: it is not.
func (s *settings) page(base given) (*daemon.PageOptions, error) {
	switch {
	case !s.Page:
		return nil, nil
	case s.ListenAnywhere && s.TLSCertFile == "":
		return nil, usageTry(try("tls_cert_file and tls_key_file, or a proxy on this machine that ends TLS and --listen on loopback"),
			"the page off loopback needs TLS: a token is typed into it")
	}
	return &daemon.PageOptions{Remedy: func(migration string, h hint.Hint) string {
		g := base
		g.migration = migration
		return g.text(h)
	}}, nil
}

// http are the names and the certificates of what serve listens at.
func (s *settings) http(log *slog.Logger) (o server.Options, err error) {
	o.Hosts = listed(s.Hosts)
	for _, h := range o.Hosts {
		if strings.ContainsAny(h, "/:@ ") {
			return o, usageTry(try("migrator.internal.example"), "hosts: %q: want names, separated by commas, without ports", oneline.Of(h))
		}
	}
	if s.TLSCertFile == "" && s.TLSKeyFile == "" && s.TLSClientCAFile == "" {
		return o, nil
	}
	if s.TLSCertFile == "" || s.TLSKeyFile == "" {
		return o, usagef("tls_cert_file and tls_key_file belong together, and tls_client_ca_file to both: name both")
	}
	certificates := &server.Certificates{Cert: s.TLSCertFile, Key: s.TLSKeyFile, ClientCA: s.TLSClientCAFile, Log: log}
	if o.TLS, err = certificates.Config(); err != nil {
		return o, usagef("certificates: %w", err)
	}
	return o, nil
}

// listed are the words of a setting that has several, separated by commas.
func listed(text string) (all []string) {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}

// alertsToken is what Alertmanagers must send; "": alerts are not accepted.
func (s *settings) alertsToken() (string, error) {
	token, from := s.AlertsToken, "MIGRATOR_ALERTS_TOKEN"
	switch {
	case token != "" && s.AlertsTokenFile != "":
		return "", usagef("both MIGRATOR_ALERTS_TOKEN and an alerts token file are given: want one")
	case s.AlertsTokenFile != "":
		text, err := infile.Text(s.AlertsTokenFile)
		if err != nil {
			return "", usagef("alerts token file: %w", err)
		}
		token, from = text, s.AlertsTokenFile
	case token == "":
		return "", nil
	}
	if len(token) < minAlertsToken {
		return "", usageTry(try("openssl rand -hex 32"), "the alerts token of %s is shorter than %d characters", from, minAlertsToken)
	}
	return token, nil
}
