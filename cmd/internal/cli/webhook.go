package cli

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/t5ctl/t5ctl/registry"
)

// webhookOptions is what the command line says of a receiver of moves, not yet checked.
type webhookOptions struct{ url, secret string }

func (o *webhookOptions) bind(flags *pflag.FlagSet) {
	flags.StringVar(&o.url, "webhook", "", "`URL` that is told of the move once it is recorded")
	flags.StringVar(&o.secret, "webhook-secret", "", "`file` with the secret that the message is signed with (HMAC-SHA256)")
}

// webhook is a receiver of moves; one without a URL receives nothing.
type webhook struct {
	url    string
	secret []byte
}

func (o webhookOptions) webhook() (webhook, error) {
	if o.url == "" {
		return webhook{}, nil
	}
	target, err := url.Parse(o.url)
	if err != nil || target.Host == "" || target.Scheme != "https" && target.Scheme != "http" {
		return webhook{}, usageErrorf("--webhook %q is not a URL", o.url)
	}
	if o.secret == "" {
		return webhook{}, usageErrorf("--webhook needs --webhook-secret: without a signature the receiver can believe nothing")
	}
	secret, err := os.ReadFile(o.secret)
	if err != nil {
		return webhook{}, err
	}
	if secret = bytes.TrimSpace(secret); len(secret) < 16 {
		return webhook{}, usageErrorf("--webhook-secret %s: %d bytes are too few, 16 are needed", o.secret, len(secret))
	}
	return webhook{o.url, secret}, nil
}

// webhookError says that a move was made and its receiver could not be told.
type webhookError struct {
	host  string
	cause error
}

func (e *webhookError) Error() string {
	return fmt.Sprintf("the move is recorded, but %s was not told: %v", e.host, e.cause)
}

func (e *webhookError) Unwrap() error { return e.cause }

// send tells of a move that was recorded. The body is the move with its record; the header
// X-T5ctl-Signature-256 holds its HMAC, X-T5ctl-Delivery what tells two deliveries of one move
// from two moves.
func (w webhook) send(ctx context.Context, move registry.Move) error {
	if w.url == "" || move.Seq == 0 {
		return nil
	}
	body, err := json.Marshal(struct {
		registry.Move
		Record json.RawMessage `json:"record"`
	}{move, move.Record})
	if err != nil {
		return err
	}
	mac := hmac.New(sha256.New, w.secret)
	_, _ = mac.Write(body) // a hash takes everything
	signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	var last error
	for attempt := range 3 {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(attempt) * 500 * time.Millisecond):
			}
		}
		if last = w.post(ctx, body, signature, fmt.Sprintf("%s-%d", strings.ReplaceAll(move.Model, "/", "."), move.Seq)); last == nil {
			return nil
		}
	}
	host := w.url
	if target, err := url.Parse(w.url); err == nil {
		host = target.Host // the rest of a URL may be a secret
	}
	return &webhookError{host, last}
}

func (w webhook) post(ctx context.Context, body []byte, signature, delivery string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-T5ctl-Signature-256", signature)
	req.Header.Set("X-T5ctl-Delivery", delivery)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if failed, ok := err.(*url.Error); ok { //nolint:errorlint // Do gives no other
			return failed.Err
		}
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}
