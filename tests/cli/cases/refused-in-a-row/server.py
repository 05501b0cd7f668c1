"""Answers one request, and refuses all others for no reason of the texts'."""
from stub import Stub, serve


class Sunday(Stub):
    asked = 0

    def answer(self, body):
        Sunday.asked += 1
        if Sunday.asked == 1:
            self.say_label(body, "a")
        else:
            self.say(400, {"error": {"message": "not on Sundays"}})


serve(Sunday)
