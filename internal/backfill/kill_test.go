package backfill_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stranglerfig/migrator/internal/backfill"
	"github.com/stranglerfig/migrator/internal/test/pairtest"
	"github.com/stranglerfig/migrator/internal/test/testenv"
)

// childEnv makes the test binary a backfill that can be killed.
const childEnv = "MIGRATOR_TEST_BACKFILL"

type order struct {
	Pair pairtest.Pair
	Path string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := child(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testenv.Main(m)
}

// child prints a line for each chunk that it has saved.
func child(text string) error {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	if err := o.Pair.Open(context.Background()); err != nil {
		return err
	}
	p := &o.Pair
	_, err := (&backfill.Backfill{
		Legacy: p.Legacy, Barrier: p.Legacy, Locker: p.Legacy, Target: p.Target,
		Ledger: &pairtest.Backfills{Path: o.Path}, ChunkRows: 500, NotAfter: notAfter, Rate: 5000,
		Report: func(p backfill.Progress) { fmt.Println(p.Done) },
	}).Run(context.Background())
	return err
}

func TestBackfillSurvivesKill(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t, pairtest.Options{})
	p.FillSimple(t, 1, 8000)
	b, ledger := runBackfill(t, p)
	text, err := json.Marshal(order{Path: ledger.Path, Pair: pairtest.Pair{Config: p.Config, LegacyURL: p.LegacyURL, TargetURL: p.TargetURL}})
	if err != nil {
		t.Fatal(err)
	}
	for _, chunks := range []int{0, 3, 6} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+string(text))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		reached := false
		for lines := bufio.NewScanner(out); !reached && lines.Scan(); {
			done, err := strconv.Atoi(lines.Text())
			reached = err == nil && done >= chunks
		}
		if err := cmd.Process.Kill(); err != nil || !reached {
			t.Fatalf("chunk %d reached: %v (%v)", chunks, reached, err)
		}
		_ = cmd.Wait()
	}
	before, err := ledger.Load()
	if err != nil || before.Done < 6 || !before.Finished.IsZero() {
		t.Fatalf("the killed ones left %+v (%v)", before, err)
	}
	got := run(t, b)
	if got.Barrier != before.Barrier || got.ID != before.ID || got.Done < before.Done {
		t.Fatalf("it started over: %+v after %+v", got, before)
	}
	p.WantSame(t)
}
