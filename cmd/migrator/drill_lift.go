package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/stranglerfig/migrator/internal/state"
	"github.com/stranglerfig/migrator/internal/state/drills"
	"github.com/stranglerfig/migrator/phases"
)

// liftedFault is the document of drill lift.
type liftedFault struct {
	Migration string                `json:"migration"`
	Fault     *phases.InjectedFault `json:"fault,omitempty"` // that was in force; nil: none was
}

func newDrillLift(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "lift [MIGRATION]",
		Short: "End the fault that a killed drill has left",
		Long: `Ends the fault that the instances of a migration inject. A drill ends its own; one that was
killed leaves it, for at most three times its --within. Without such a fault, nothing is
done. A drill that is running needs its fault: end the drill instead, with Ctrl-C.`,
		Args: optionalName,
		RunE: c.withState(func(ctx context.Context, store *state.Store, name string) error {
			e, err := store.Snapshot(ctx, name)
			if err != nil {
				return err
			}
			if e.Fault != nil {
				if holder := drills.New(store.Pool(), name).Holder(ctx); holder != "" {
					return notYet(fmt.Errorf("%w%s: it ends its fault by itself", drills.ErrDrilling, holder))
				}
				if err := store.LiftFault(ctx, name, e.Fault.ID); err != nil {
					return err
				}
			}
			return c.show(liftedFault{name, e.Fault}, func() {
				if e.Fault == nil {
					c.printf("%s has no fault\n", name)
					return
				}
				c.printf("lifted the fault of a drill, which would have ended at %s: %s; its instances end it with their next renewal\n", e.Fault.Until.UTC().Format(time.RFC3339), e.Fault)
			})
		}),
	}
}
