package remote

// DefaultCredentials are those of docker's config.json.
func DefaultCredentials() Credentials { return Anonymous{} }
