"""How well units are described and concepts localized, beside every baseline; and where a prediction goes wrong."""
