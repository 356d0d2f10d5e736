package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/infile"
	"github.com/stranglerfig/migrator/internal/logs"
)

// Certificates are the files of TLS. They are looked at in each handshake, and read again when one has changed: a
// certificate is renewed by replacing its files. Files that can't be used leave the former ones in force.
type Certificates struct {
	Cert, Key string
	ClientCA  string       // whose certificates clients must have; "": they need none
	Log       *slog.Logger // nil: discarded

	mu     sync.Mutex
	stamps [3]stamp
	config *tls.Config
	failed string // logged once
}

type stamp struct {
	at   time.Time
	size int64
}

// Config reads the files, and returns what a server listens with.
func (c *Certificates) Config() (*tls.Config, error) {
	if _, err := c.current(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current()
		},
	}, nil
}

// current returns the configuration by the files as they are, or by the last ones that could be used.
func (c *Certificates) current() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamps, err := c.stat()
	if err == nil && c.config != nil && stamps == c.stamps {
		return c.config, nil
	}
	var config *tls.Config
	if err == nil {
		config, err = c.read()
	}
	switch {
	case err == nil:
		// Stamps of before the reading: files that change meanwhile are read again.
		c.config, c.stamps, c.failed = config, stamps, ""
		return config, nil
	case c.config == nil:
		return nil, err
	case c.failed != err.Error():
		c.failed = err.Error()
		logs.OrDiscard(c.Log).Error("certificates can't be read again; the former ones stay", "error", err, hint.Attr(err))
	}
	return c.config, nil
}

func (c *Certificates) stat() (stamps [3]stamp, err error) {
	for i, path := range []string{c.Cert, c.Key, c.ClientCA} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = stamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (c *Certificates) read() (*tls.Config, error) {
	cert, err := infile.Read(c.Cert, infile.Middle)
	if err != nil {
		return nil, err
	}
	key, err := infile.Read(c.Key, infile.Middle)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s with the key %s: %w", c.Cert, c.Key, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if c.ClientCA == "" {
		return config, nil
	}
	authority, err := infile.Read(c.ClientCA, infile.Middle)
	if err != nil {
		return nil, err
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s: %w", c.ClientCA, errors.New("it has no certificate in PEM"))
	}
	return config, nil
}
