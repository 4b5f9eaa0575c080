package hosted

// Match tells whether the whole of name fits pattern, where ** stands for anything, * for anything
// without a slash and ? for one character that is no slash. It takes time in proportion to the
// product of their lengths at most.
func Match(pattern, name string) bool {
	// fits[i]: the pattern so far fits the first i bytes of name.
	fits := make([]bool, len(name)+1)
	fits[0] = true
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c == '*' {
			deep := i+1 < len(pattern) && pattern[i+1] == '*'
			if deep {
				i++
			}
			for j := range name {
				fits[j+1] = fits[j+1] || fits[j] && (deep || name[j] != '/')
			}
			continue
		}
		for j := len(name); j > 0; j-- {
			fits[j] = fits[j-1] && (c == name[j-1] || c == '?' && name[j-1] != '/')
		}
		fits[0] = false
	}
	return fits[len(name)]
}
