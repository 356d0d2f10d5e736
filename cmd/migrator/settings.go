package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
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
	v := viper.NewWithOptions(viper.ExperimentalBindStruct())
	v.SetEnvPrefix("MIGRATOR")
	v.SetEnvKeyReplacer(strings.NewReplacer("-", "_"))
	v.AutomaticEnv()
	v.SetDefault("listen", defaultListen)
	for _, name := range []string{"file", "output", "state-url-file", "log-level", "log-format", "listen", "listen-anywhere"} {
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
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return usageTry(try("migrator config settings"), "settings %s: %w", path, err)
	}
	strict := func(d *mapstructure.DecoderConfig) { d.ErrorUnused = true }
	if err := v.Unmarshal(&c.settings, strict); err != nil {
		return usageTry(try("migrator config settings"), "settings %s: %s", path, firstLine(err))
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
	return c.check()
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
	line := strings.TrimSpace(strings.TrimPrefix(lines[len(lines)-1], "* "))
	if unknown, ok := strings.CutPrefix(line, "'' has invalid keys: "); ok {
		return "there is no setting " + unknown
	}
	return line
}

func (c *cli) check() error {
	s := &c.settings
	if s.Output != outputText && s.Output != outputJSON {
		bad := s.Output
		s.Output = outputText
		return usagef("output %q: want text or json", bad)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return usagef("log level %q: want debug, info, warn or error", s.LogLevel)
	}
	switch s.LogFormat {
	case "json":
		c.log = slog.New(slog.NewJSONHandler(c.err, &slog.HandlerOptions{Level: level, ReplaceAttr: c.logHint}))
	case "text":
		c.log = slog.New(tint.NewTextHandler(c.err, &tint.Options{Level: level, NoColor: !c.colour(c.err), ReplaceAttr: c.logHint}))
	default:
		return usagef("log format %q: want text or json", s.LogFormat)
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

const minAlertsToken = 16

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
