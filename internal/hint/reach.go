package hint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// Reach is the code in the table of why a server could not be reached; "" for any other error.
func Reach(err error) string {
	var dns *net.DNSError
	var untrusted x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var noTLS tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return ""
	case errors.As(err, &dns):
		return "no-host"
	case errors.As(err, &untrusted), errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return "tls-untrusted"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "tls-expired"
	case errors.As(err, &name):
		return "tls-name"
	case errors.As(err, &noTLS), strings.Contains(err.Error(), "server refused TLS connection"):
		return "tls-not-spoken" // the text is the driver's, of which no translation exists
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "silent"
	}
	return ""
}
