package app

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stranglerfig/migrator/internal/hint"
	"github.com/stranglerfig/migrator/internal/state"
)

// anchorFormat begins the line and the signed text, so that no other use of the key gives a valid signature.
const anchorFormat = "migrator-anchor/1"

// AnchorHistory returns the end of the history and the line that states it: the format, the migration, the
// entry's number and hash, the time, and an Ed25519 signature of all that in base64.
func AnchorHistory(ctx context.Context, store *state.Store, name string, key ed25519.PrivateKey) (state.Anchor, string, error) {
	a, err := store.Anchor(ctx, name)
	if err != nil {
		return a, "", err
	}
	text := anchorText(a)
	return a, text + " " + base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(text))), nil
}

func anchorText(a state.Anchor) string {
	return strings.Join([]string{anchorFormat, a.Migration, strconv.FormatInt(a.Seq, 10), a.Hash, a.At.UTC().Format(time.RFC3339Nano)}, " ")
}

// ReadAnchors returns the anchors of the migration in the text, each signed by the key. A line of another form, or
// that another key signed, is an error: it may have been changed so that it is overlooked.
func ReadAnchors(text []byte, key ed25519.PublicKey, name string) (anchors []state.Anchor, err error) {
	for n, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		words := strings.Split(strings.TrimSuffix(line, "\r"), " ")
		if len(words) != 6 || words[0] != anchorFormat {
			return nil, fmt.Errorf("line %d is no anchor: want %s, a migration, a number, a hash, a time and a signature", n+1, anchorFormat)
		}
		signature, err := base64.StdEncoding.DecodeString(words[5])
		if err != nil || !ed25519.Verify(key, []byte(strings.Join(words[:5], " ")), signature) {
			return nil, fmt.Errorf("line %d is not signed by the key, or was changed", n+1)
		}
		a := state.Anchor{Migration: words[1], Hash: words[3]}
		if a.Seq, err = strconv.ParseInt(words[2], 10, 64); err == nil {
			a.At, err = time.Parse(time.RFC3339Nano, words[4])
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
		if a.Migration == name {
			anchors = append(anchors, a)
		}
	}
	if len(anchors) == 0 {
		return nil, fmt.Errorf("it has no anchor of %s", name)
	}
	return anchors, nil
}

// AppendLine adds a line to a file, which it creates, and waits until it is on the disk.
func AppendLine(path, line string) (err error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // nothing in it is secret
	if err != nil {
		return hint.Errorf(hint.Hint{Text: "name a file in a directory that this user may write"}, "the anchor is not written: %w", err)
	}
	if _, err = f.WriteString(line + "\n"); err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// IsWebhook reports whether a line may be sent there: the way is encrypted, or does not leave the machine.
func IsWebhook(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

// SendLine posts the line.
func SendLine(ctx context.Context, to, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(line+"\n"))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "the anchor is not delivered: the webhook on %s does not answer", request.URL.Host)
	}
	_ = response.Body.Close()
	if response.StatusCode/100 != 2 {
		return hint.Errorf(hint.Hint{Do: hint.Retry}, "the anchor is not delivered: the webhook on %s answers %s", request.URL.Host, response.Status)
	}
	return nil
}
