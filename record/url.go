package record

// URLError refuses a store's URL that can't be one, before anything is connected to.
// It holds no part of it that may be secret.
type URLError string

// Error implements error.
func (e URLError) Error() string { return string(e) }
