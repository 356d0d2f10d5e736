package store_test

import (
	"fmt"

	"github.com/stranglerfig/migrator/store"
)

// driverError stands for what pgx and lib/pq return.
type driverError struct{ code string }

func (e *driverError) Error() string    { return "the server refused: " + e.code }
func (e *driverError) SQLState() string { return e.code }

// The fence is recognized whatever the driver, and through errors that wrap its error.
func ExampleIsFenced() {
	err := fmt.Errorf("save the session: %w", &driverError{"MG001"})
	fmt.Println(store.IsFenced(err), store.IsUncertain(err))
	// Output: true false
}
