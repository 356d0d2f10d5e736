package main

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/configschema"
	"github.com/stranglerfig/migrator/internal/openstore"
	"github.com/stranglerfig/migrator/internal/preflight"
	"github.com/stranglerfig/migrator/migration"
	"github.com/stranglerfig/migrator/store"
)

func newConfig(c *cli) *cobra.Command {
	return group("config", "Inspect the migration file and the settings",
		newConfigShow(c), newConfigValidate(c), newConfigSchema(c), newConfigSettings(c))
}

func newConfigShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the migration file with all defaults, without secrets",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			m, err := c.load()
			if err != nil {
				return err
			}
			if c.settings.Output == outputJSON {
				return c.json(migration.Redacted(m))
			}
			text, err := migration.Show(m)
			if err != nil {
				return err
			}
			_, err = c.out.Write(text)
			return err
		},
	}
}

// validated is a migration file that can be read.
type validated struct {
	Migration string        `json:"migration"`
	FileHash  string        `json:"file_hash"`          // the config hash is this and the columns that apply finds
	Warnings  []store.Check `json:"warnings,omitempty"` // of safeguards that are off in production
}

func newConfigValidate(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the migration file without connecting to anything",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			m, err := c.load()
			if err != nil {
				return err
			}
			result := validated{Migration: m.Name, FileHash: m.Hash(), Warnings: preflight.CheckProduction(m)}
			return c.show(result, func() {
				c.printf("%s is valid, file hash %s (apply adds the stores' columns to it)\n", m.Name, m.Hash()[:12])
				c.printChecks(result.Warnings)
			})
		},
	}
}

func newConfigSchema(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the migration file's JSON Schema, for editors",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := configschema.Migration(openstore.Kinds()...)
			if err != nil {
				return err
			}
			_, err = c.out.Write(text)
			return err
		},
	}
}

// newConfigSettings prints the settings. It does not print URLs and tokens, only whether
// they are set.
func newConfigSettings(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "settings",
		Short: "Show the settings and where each may be set",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			values, rows := c.shownSettings()
			return c.show(values, func() { c.table(rows) })
		},
	}
}

// shownSettings are the settings without URLs and tokens, and the table of where each may be set.
func (c *cli) shownSettings() (values map[string]string, rows [][]string) {
	s := c.settings
	if s.StateURL != "" {
		s.StateURL = "(set)"
	}
	if s.AlertsToken != "" {
		s.AlertsToken = "(set)"
	}
	rows = [][]string{
		{"SETTING", "VALUE", "VARIABLE", "FLAG"},
		{"settings", cmp.Or(c.settingsFrom, "-"), "MIGRATOR_SETTINGS", "--settings"},
		{"file", cmp.Or(s.File, "-"), "MIGRATOR_FILE", "--file"},
		{"state_url", cmp.Or(s.StateURL, "-"), "MIGRATOR_STATE_URL", "-"},
		{"state_url_file", cmp.Or(s.StateURLFile, "-"), "MIGRATOR_STATE_URL_FILE", "--state-url-file"},
		{"output", s.Output, "MIGRATOR_OUTPUT", "--output"},
		{"log_level", s.LogLevel, "MIGRATOR_LOG_LEVEL", "--log-level"},
		{"log_format", s.LogFormat, "MIGRATOR_LOG_FORMAT", "--log-format"},
		{"listen", s.Listen, "MIGRATOR_LISTEN", "--listen (serve)"},
		{"listen_anywhere", strconv.FormatBool(s.ListenAnywhere), "MIGRATOR_LISTEN_ANYWHERE", "--listen-anywhere (serve, worker)"},
		{"alerts_token", cmp.Or(s.AlertsToken, "-"), "MIGRATOR_ALERTS_TOKEN", "-"},
		{"alerts_token_file", cmp.Or(s.AlertsTokenFile, "-"), "MIGRATOR_ALERTS_TOKEN_FILE", "-"},
		{"page", strconv.FormatBool(s.Page), "MIGRATOR_PAGE", "--page (serve)"},
		{"flags", strconv.FormatBool(s.Flags), "MIGRATOR_FLAGS", "--flags (serve)"},
		{"api", strconv.FormatBool(s.API), "MIGRATOR_API", "--api (serve)"},
		{"api_rate", cmp.Or(strings.TrimPrefix(strconv.Itoa(s.APIRate), "0"), "-"), "MIGRATOR_API_RATE", "-"},
		{"flags_origins", cmp.Or(s.FlagsOrigins, "-"), "MIGRATOR_FLAGS_ORIGINS", "-"},
		{"flags_rate", cmp.Or(strings.TrimPrefix(strconv.Itoa(s.FlagsRate), "0"), "-"), "MIGRATOR_FLAGS_RATE", "-"},
		{"hosts", cmp.Or(s.Hosts, "-"), "MIGRATOR_HOSTS", "-"},
		{"tls_cert_file", cmp.Or(s.TLSCertFile, "-"), "MIGRATOR_TLS_CERT_FILE", "-"},
		{"tls_key_file", cmp.Or(s.TLSKeyFile, "-"), "MIGRATOR_TLS_KEY_FILE", "-"},
		{"tls_client_ca_file", cmp.Or(s.TLSClientCAFile, "-"), "MIGRATOR_TLS_CLIENT_CA_FILE", "-"},
	}
	values = map[string]string{}
	for _, row := range rows[1:] {
		values[row[0]] = row[1]
	}
	return values, rows
}
